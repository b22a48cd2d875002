#!/bin/sh
# Installs a program or library of Python from PyPI into target/NAME, pinned and by hash: `install-python.sh NAME MODULE WHAT`, with
# tests/python/NAME.txt; complete in itself; MODULE is what must be there to import, WHAT is for whoever watches.
set -eu
me=${0##*/}
cd "$(dirname "$0")/.."
die() { echo "$me: $1; next: $2" >&2; exit 1; }

wanted=tests/python/$1.txt
venv=target/$1
# A copy of what was installed, written last: another one, or none, means to do it again.
if cmp -s "$wanted" "$venv/installed" && "$venv/bin/python" -c "import $2" 2>/dev/null; then exit 0; fi

python3 -c 'import ensurepip, venv' 2>/dev/null || tools/install-packages.sh 'for what comes from PyPI' /nowhere -- python3 python3-venv
echo "$me: installs $3 into $venv"
rm -rf "$venv"
mkdir -p target
python3 -m venv "$venv" || die "\`python3 -m venv\` failed" "read its message above"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r "$wanted" ||
    die "pip could not install $wanted" "read its message above; it needs PyPI (\`pip config list\`)"
cp "$wanted" "$venv/installed"
