#!/bin/bash
# Makes the image landfall-vm:SUITE (bookworm or trixie) that the tests of units and of the package start as a machine: Debian with
# its own systemd as process 1, Docker Engine and Compose of trixie, the registry that tests start and what they publish with. Nothing of ours is in it.
# With DOCKER=no the machine is bare: landfall-vm:SUITE-bare. Does nothing where the image is there and this script did not change.
set -euo pipefail
me=${0##*/}
cd "$(dirname "$0")"
. ./step.sh
die() { echo "$me: $1; next: $2" >&2; exit 1; }

suite=${1:-}
[[ $suite = bookworm || $suite = trixie ]] || die "it makes no \`$suite\`" "\`tools/$me bookworm\` or \`tools/$me trixie\`"
image=landfall-vm:$suite
[ "${DOCKER:-yes}" = yes ] || image+=-bare
version=$(cat "$me" add-trixie.sh | sha256sum | cut -c 1-16)
made=$(docker image inspect --format '{{index .Config.Labels "io.landfall.vm"}}' "$image" 2>/dev/null || true)
[ "$made" != "$version" ] || exit 0
[ "$(id -u)" = 0 ] || die "cannot make a root file system as $(id -un)" "run \`sudo tools/$me $suite\`"

./install-packages.sh 'to make a machine' debootstrap -- debootstrap

root=$(mktemp -d /var/tmp/landfall-vm-XXXXXX)
trap 'rm -rf "$root"' EXIT
inside() { DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }

base=systemd,systemd-sysv,dbus,ca-certificates,iproute2,nftables,procps,adduser,curl,e2fsprogs
make_root() {
    debootstrap --variant=minbase --include=$base "$suite" "$root" >"$root.log" 2>&1 || {
        tail -n 5 "$root.log" >&2
        return 1
    }
    rm -f "$root.log"
    # No package starts a service in here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    if [ "${DOCKER:-yes}" = yes ]; then
        if [ "$suite" = bookworm ]; then
            install add-trixie.sh "$root/root/"
            inside /root/add-trixie.sh
        else
            inside apt-get update -q
        fi
        inside apt-get install -qy --no-install-recommends -t trixie docker.io docker-cli docker-compose docker-registry iptables oras skopeo
        inside systemctl disable -q docker-registry
    fi
    rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/machine-id"
    : >"$root/etc/machine-id"
    rm -rf "$root"/var/cache/apt/archives/*.deb
}
step "$image: Debian $suite as a machine, about a minute" make_root || die "the root file system was not made" "read the messages above"
# The root must be shared, as on a machine, or no credential and no mount reaches a unit.
tar -C "$root" -c . | docker import --change 'CMD ["/bin/sh", "-c", "mount --make-rshared / && exec /lib/systemd/systemd"]' --change 'STOPSIGNAL SIGRTMIN+3' \
    --change "LABEL io.landfall.vm=$version" - "$image" >/dev/null
