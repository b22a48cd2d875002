#!/bin/sh
# Puts cloud-init, which judges user-data, into target/cloud-init. It is only unpacked: an installed one would act at the next boot of
# this machine. What it imports is installed.
set -eu
me=${0##*/}
cd "$(dirname "$0")/.."
into=$PWD/target/cloud-init
die() { echo "$me: $1; next: $2" >&2; exit 1; }

dist=/usr/lib/python3/dist-packages
tools/install-packages.sh 'for cloud-init, which judges user-data' /usr/bin/python3 $dist/yaml $dist/jsonschema $dist/jinja2 \
    $dist/configobj.py $dist/requests $dist/oauthlib $dist/jsonpatch.py -- python3 python3-yaml python3-jsonschema python3-jinja2 \
    python3-configobj python3-requests python3-oauthlib python3-jsonpatch
if "$into/cloud-init" --version >/dev/null 2>&1; then exit 0; fi

[ -n "$(apt-cache madison cloud-init)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
# On Debian 12 the images' own, which is Debian 13's.
case $(apt-cache policy cloud-init | sed -n 's/^  Candidate: //p') in 22.*) tools/add-trixie.sh ;; esac
version=$(apt-cache madison cloud-init | cut -d '|' -f 2 | tr -d ' ' | sort -V | tail -n 1)
echo "$me: takes cloud-init $version apart into target/cloud-init"
rm -rf "$into"
mkdir -p "$into"
(cd "$into" && apt-get download -q "cloud-init=$version") || die "apt could not fetch cloud-init" "read apt's message above"
dpkg-deb -x "$into"/cloud-init_*.deb "$into/package"
rm "$into"/cloud-init_*.deb
printf '#!/bin/sh\nexec env PYTHONPATH="%s" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "%s" "$@"\n' "$into/package$dist" "$into/package/usr/bin/cloud-init" >"$into/cloud-init"
chmod +x "$into/cloud-init"
"$into/cloud-init" --version
