#!/bin/bash
# Boots the VM image under qemu: tests/tests/image.rs. More words are for the test program.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "${0##*/}: $1; next: $2" >&2; exit 1; }

tools/install-packages.sh 'to boot an image' qemu-system-x86_64 qemu-img mkfs.vfat mcopy ssh /usr/share/OVMF/OVMF_CODE_4M.fd -- \
    qemu-system-x86 qemu-utils dosfstools mtools openssh-client ovmf
image=$(echo "$PWD/${LANDFALL_IMAGE:-target/image}"/landfall_*.qcow2)
[ -f "$image" ] || die "there is no image" "\`make image\`"
program=$(cargo test --profile quick --workspace --test image --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
LANDFALL_IMAGE_FILE=$image unshare --net "$program" --ignored --nocapture "$@"
