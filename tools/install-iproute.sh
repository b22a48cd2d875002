#!/bin/sh
# Installs `ip`, with which tests and `make try` make the network in which the stand-in for Azure has its real addresses.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if command -v ip >/dev/null; then exit 0; fi
echo "$me: installs the package iproute2 with apt"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison iproute2)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 iproute2 ||
    die "apt could not install iproute2" "read apt's message above"
