#!/bin/sh
# Installs what others publish with, for the tests: skopeo from the distribution, oras from it or, where it has none, built with
# Go into target/publishers (after tools/install-compose-v5.sh, which brings Go).
set -eu
oras_version=1.2.3
me=${0##*/}
cd "$(dirname "$0")/.."
die() { echo "$me: $1; next: $2" >&2; exit 1; }

missing=
for program in skopeo oras; do
    command -v "$program" >/dev/null || [ -x "target/publishers/$program" ] || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

echo "$me: installs$missing"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison skopeo)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
for program in $missing; do
    [ -n "$(apt-cache madison "$program")" ] || continue
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 "$program" || true
done
command -v skopeo >/dev/null || die "apt could not install skopeo" "read apt's message above; on Ubuntu it is in \`universe\`"
if ! command -v oras >/dev/null && [ ! -x target/publishers/oras ]; then
    PATH=$PATH:/usr/local/go/bin
    mkdir -p target/publishers
    GOBIN=$PWD/target/publishers GOTOOLCHAIN=auto CGO_ENABLED=0 nice go install "oras.land/oras/cmd/oras@v$oras_version" ||
        die "oras $oras_version did not build" "read go's message above; it needs a Go module proxy (\`go env GOPROXY\`)"
fi
