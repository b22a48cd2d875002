#!/bin/bash
# Makes the root file system of the VM image in the directory ROOT: Debian 13, and what packaging/image/install.sh makes of it with our
# package DEB. `image-root.sh ROOT DEB [LIST…]`, with lists of packages beside `packages`. tools/build-image.sh lays it on a disk,
# `make test-vm` boots it in a container.
#   LANDFALL_EXTRAS  a directory with programs of packaging/image/extras
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/step.sh
die() { echo "${0##*/}: $1; next: $2" >&2; exit 1; }

[ $# -ge 2 ] || die "it needs two words" "\`tools/${0##*/} ROOT DEB\`"
root=$1 deb=$2
shift 2
[ "$(id -u)" = 0 ] || die "cannot make a root file system as $(id -un)" "run it with sudo"
tools/install-packages.sh 'to make a machine' debootstrap -- debootstrap
tools/image-extras.sh '' packaging/image/extras "${LANDFALL_EXTRAS:-}"

make_root() {
    debootstrap --variant=minbase trixie "$root" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; return 1; }
    mkdir "$root/root/image"
    cp -r packaging/image/. "$deb" "$root/root/image/"
    chroot "$root" /root/image/install.sh "/root/image/$(basename "$deb")" packages "$@"
    rm -rf "$root/root/image" "$root/var/log/bootstrap.log"
}
quietly() { make_root "$@" >"$root.out" 2>&1; }
step "the root file system: Debian 13 with Docker, cloud-init and $(basename "$deb"), some minutes" quietly "$@" ||
    { tail -n 20 "$root.out" >&2; die "the root file system was not made" "read the messages above"; }
rm -f "$root.out" "$root.log"
tools/image-extras.sh "$root" packaging/image/extras "${LANDFALL_EXTRAS:-}"
