#!/bin/bash
# Makes the image landfall-vm:SUITE (bookworm, trixie or noble) that the tests of units and of the package start as a machine: Debian or
# Ubuntu with its own systemd as process 1, Docker Engine and Compose (of trixie; on Ubuntu its own), the registry that tests start and what
# they publish with. Nothing of ours is in it.
# With DOCKER=no the machine is bare: landfall-vm:SUITE-bare. Does nothing where the image is there and this script did not change.
set -euo pipefail
me=${0##*/}
cd "$(dirname "$0")"
. ./step.sh
die() { echo "$me: $1; next: $2" >&2; exit 1; }

suite=${1:-}
docker="-t trixie docker.io docker-cli docker-compose docker-registry iptables oras skopeo"
case $suite in
bookworm | trixie) name="Debian $suite" ;;
noble)
    name="Ubuntu $suite"
    docker="docker.io docker-compose-v2 docker-registry iptables skopeo"
    ;;
*) die "it makes no \`$suite\`" "\`tools/$me bookworm\`, \`trixie\` or \`noble\`" ;;
esac
image=landfall-vm:$suite
[ "${DOCKER:-yes}" = yes ] || image+=-bare
version=$(cat "$me" add-trixie.sh | sha256sum | cut -c 1-16)
made=$(docker image inspect --format '{{index .Config.Labels "io.landfall.vm"}}' "$image" 2>/dev/null || true)
[ "$made" != "$version" ] || exit 0
[ "$(id -u)" = 0 ] || die "cannot make a root file system as $(id -un)" "run \`sudo tools/$me $suite\`"

./install-packages.sh 'to make a machine' debootstrap -- debootstrap

root=$(mktemp -d /var/tmp/landfall-vm-XXXXXX)
trap 'rm -rf "$root"' EXIT
from=("$suite" "$root")
if [ "$suite" = noble ]; then
    ubuntu=http://archive.ubuntu.com/ubuntu keys=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    ./install-packages.sh 'to make a machine of Ubuntu' $keys -- ubuntu-keyring
    # Ubuntu has no oras. Debian 12's debootstrap has no script of this name, and all of Ubuntu's are this one.
    ./install-publishers.sh
    oras=$(PATH=$PATH:$PWD/../target/publishers command -v oras)
    from=(--keyring=$keys --components=main,universe "${from[@]}" $ubuntu /usr/share/debootstrap/scripts/gutsy)
fi
inside() { DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }

base=systemd,systemd-sysv,dbus,ca-certificates,iproute2,nftables,procps,adduser,curl,e2fsprogs
make_root() {
    debootstrap --variant=minbase --include=$base "${from[@]}" >"$root.log" 2>&1 || {
        tail -n 5 "$root.log" >&2
        return 1
    }
    rm -f "$root.log"
    # No package starts a service in here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    if [ "${DOCKER:-yes}" = yes ]; then
        case $suite in
        bookworm)
            install add-trixie.sh "$root/root/"
            inside /root/add-trixie.sh
            ;;
        trixie) inside apt-get update -q ;;
        noble)
            printf "deb $ubuntu %s main universe\n" noble noble-updates noble-security >"$root/etc/apt/sources.list"
            inside apt-get update -q
            inside apt-get upgrade -qy
            install "$oras" "$root/usr/local/bin/"
            ;;
        esac
        # shellcheck disable=SC2086 # a list of words
        inside apt-get install -qy --no-install-recommends $docker
        inside systemctl disable -q docker-registry
    fi
    rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/machine-id"
    : >"$root/etc/machine-id"
    rm -rf "$root"/var/cache/apt/archives/*.deb
}
step "$image: $name as a machine, about a minute" make_root || die "the root file system was not made" "read the messages above"
# The root must be shared, as on a machine, or no credential and no mount reaches a unit.
tar -C "$root" -c . | docker import --change 'CMD ["/bin/sh", "-c", "mount --make-rshared / && exec /lib/systemd/systemd"]' --change 'STOPSIGNAL SIGRTMIN+3' \
    --change "LABEL io.landfall.vm=$version" - "$image" >/dev/null
