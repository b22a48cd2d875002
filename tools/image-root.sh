#!/bin/bash
# Makes the root file system of the VM image in the directory ROOT: Debian 13, the packages of packaging/image/packages, the files of
# packaging/image/root and our package DEB. `image-root.sh ROOT DEB [MORE-PACKAGES-FILE…]`. tools/build-image.sh lays it on a disk,
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
inside() { DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" "$@"; }

make_root() {
    debootstrap --variant=minbase trixie "$root" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; return 1; }
    # No package starts a service in here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    # Ours first: packages ask at their installation.
    tar -C packaging/image/root -c . | tar -C "$root" -x --no-same-owner
    inside apt-get update -q
    sed -e '/^#/d' packaging/image/packages "$@" |
        inside xargs apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold
    install "$deb" "$root/root/landfall.deb"
    inside apt-get install -qy --no-install-recommends /root/landfall.deb
    inside systemctl enable -q systemd-networkd
    # `landfall break-glass` runs it when it is wanted.
    inside systemctl disable -q caddy.service
    # What is each machine's own comes with its first boot.
    rm -f "$root"/root/landfall.deb "$root"/usr/sbin/policy-rc.d "$root"/etc/ssh/ssh_host_* "$root"/etc/hostname
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root/var/log/bootstrap.log"
    : >"$root/etc/machine-id"
}
quietly() { make_root "$@" >"$root.out" 2>&1; }
step "the root file system: Debian 13 with Docker, cloud-init and $(basename "$deb"), some minutes" quietly "$@" ||
    { tail -n 20 "$root.out" >&2; die "the root file system was not made" "read the messages above"; }
rm -f "$root.out" "$root.log"
tools/image-extras.sh "$root" packaging/image/extras "${LANDFALL_EXTRAS:-}"
inside dpkg-query -W -f '${Package} ${Version}\n' >"$root/usr/share/landfall/packages"
