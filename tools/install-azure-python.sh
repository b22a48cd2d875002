#!/bin/sh
# Installs Microsoft's Python client for Key Vault into target/azure-python, for the test of tests/src/sandbox: pinned and by hash
# (tests/python/requirements.txt), from PyPI.
set -eu
me=${0##*/}
cd "$(dirname "$0")/.."
die() { echo "$me: $1; next: $2" >&2; exit 1; }

wanted=tests/python/requirements.txt
venv=target/azure-python
# A copy of what was installed, written last: another one, or none, means to do it again.
if cmp -s "$wanted" "$venv/installed" && "$venv/bin/python" -c 'import azure.keyvault.secrets' 2>/dev/null; then exit 0; fi

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$me: installs the packages python3 and python3-venv with apt"
    [ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
    [ -n "$(apt-cache madison python3-venv)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
    dpkg --configure -a || true # what an interrupted run left behind
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 python3 python3-venv ||
        die "apt could not install python3-venv" "read apt's message above"
fi
echo "$me: installs azure-identity and azure-keyvault-secrets into $venv"
rm -rf "$venv"
mkdir -p target
python3 -m venv "$venv" || die "\`python3 -m venv\` failed" "read its message above"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r "$wanted" ||
    die "pip could not install $wanted" "read its message above; it needs PyPI (\`pip config list\`)"
cp "$wanted" "$venv/installed"
