#!/bin/sh
# Installs packages of the distribution with apt where a program is absent: `install-packages.sh WHAT-FOR FILE… -- PACKAGE…`. A FILE is
# a path, or the name of a program. Nothing is started by it.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin

why=$1 absent=
shift
while [ "$1" != -- ]; do
    [ -e "$1" ] || command -v "$1" >/dev/null || absent=$1
    shift
done
shift
[ -n "$absent" ] || exit 0
echo "$me: installs with apt, $why: $*"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run it with sudo"
for package; do
    [ -n "$(apt-cache madison "$package")" ] || { apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"; break; }
done
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" ||
    die "apt could not install $*" "read apt's message above"
