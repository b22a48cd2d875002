#!/bin/sh
# Installs nftables, whose program the guard needs, and its test.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if [ -x /usr/sbin/nft ]; then exit 0; fi
echo "$me: installs the package nftables with apt"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison nftables)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 nftables ||
    die "apt could not install nftables" "read apt's message above"
