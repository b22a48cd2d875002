#!/bin/sh
# Installs what `make deb` needs beside the toolchain: debhelper, which writes the maintainer scripts, and lintian.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if command -v dh >/dev/null && command -v lintian >/dev/null && command -v dpkg-buildpackage >/dev/null; then exit 0; fi
echo "$me: installs the packages debhelper, dpkg-dev and lintian with apt"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison lintian)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 debhelper dpkg-dev lintian ||
    die "apt could not install debhelper and lintian" "read apt's message above"
