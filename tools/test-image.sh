#!/bin/bash
# Makes the VM image's root file system once more, which must have the same packages, and boots the image under qemu: tests/tests/image.rs.
# More words are for the test program, which is then all that runs.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "${0##*/}: $1; next: $2" >&2; exit 1; }

tools/install-packages.sh 'to boot an image' qemu-system-x86_64 qemu-img mkfs.vfat mcopy ssh /usr/share/OVMF/OVMF_CODE_4M.fd -- \
    qemu-system-x86 qemu-utils dosfstools mtools openssh-client ovmf
image=$(echo "$PWD/${LANDFALL_IMAGE:-target/image}"/landfall_*.qcow2)
[ -f "$image" ] || die "there is no image" "\`make image\`"
if [ $# = 0 ]; then
    again=$(mktemp -d /var/tmp/landfall-root-XXXXXX)
    trap 'rm -rf "$again"' EXIT
    tools/image-root.sh "$again/root" "$(echo target/deb/landfall_*_amd64.deb)" packages.disk
    diff "${image%.qcow2}.packages" "$again/root/usr/share/landfall/packages" ||
        die "the image (<) has other packages than one that is made now (>)" "\`make image\`, if Debian has moved since; else see why"
    rm -rf "$again"
fi
program=$(cargo test --profile quick --workspace --test image --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
LANDFALL_IMAGE_FILE=$image unshare --net "$program" --ignored --nocapture --test-threads 1 "$@"
