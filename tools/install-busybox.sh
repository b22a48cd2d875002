#!/bin/sh
# Installs a static busybox, of which the test of the guard makes the image that tries to get past it.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if [ -x /bin/busybox ] && [ -e /usr/share/doc/busybox-static ]; then exit 0; fi
echo "$me: installs the package busybox-static with apt"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison busybox-static)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 busybox-static ||
    die "apt could not install busybox-static" "read apt's message above"
