#!/bin/sh
# Installs a C++ compiler, which only `make fuzz` needs: libFuzzer is C++.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if command -v c++ >/dev/null; then exit 0; fi
echo "$me: installs the package g++ with apt"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison g++)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 g++ ||
    die "apt could not install g++" "read apt's message above"
