#!/bin/bash
# Lays the VM image on disks: target/image/landfall_VERSION.raw, .qcow2 and .vhd (fixed size, as Azure wants it), the list of its packages
# and an SBOM. Debian 13 for machines with UEFI. The root grows with the disk at the first boot.
#   LANDFALL_PROGRAMS  a directory with static programs; without it they are built
#   LANDFALL_EXTRAS    a directory with programs of packaging/image/extras, to be in it too
#   LANDFALL_IMAGE     where to build, in place of target/image
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/step.sh
die() { echo "${0##*/}: $1; next: $2" >&2; exit 1; }

# In MiB: of the disk, of its first partition for the loader, and where that begins. The last one ends the backup of the table.
size=4096 loader=64 first=1 last=1
[ "$(id -u)" = 0 ] || die "cannot make a root file system as $(id -un)" "run it with sudo"
[ "$(dpkg --print-architecture)" = amd64 ] || die "no image for $(dpkg --print-architecture)" "run it on an amd64 machine"
tools/install-packages.sh 'to lay an image on a disk' debootstrap sfdisk mkfs.ext4 mkfs.vfat mcopy qemu-img -- \
    debootstrap fdisk e2fsprogs dosfstools mtools qemu-utils
tools/install-python.sh debsbom debsbom 'what makes the list of what is in the image'
out=${LANDFALL_IMAGE:-target/image}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=$out/landfall_$version
rm -rf "$out" && mkdir -p "$out"
deb=$(tools/build-deb.sh | tail -n 1)
root=$out/root
tools/image-root.sh "$root" "$deb" packages.disk

uuid=$(cat /proc/sys/kernel/random/uuid)
# The kernel's own scripts write this file anew on the machine, for kernels to come.
mkdir -p "$root/boot/grub" "$root/boot/efi"
. packaging/image/root/etc/default/grub.d/50-landfall.cfg
cat >"$root/boot/grub/grub.cfg" <<GRUB
linux /vmlinuz root=UUID=$uuid ro $GRUB_CMDLINE_LINUX
initrd /initrd.img
boot
GRUB
printf 'UUID=%s / ext4 defaults,errors=remount-ro 0 1\nLABEL=LOADER /boot/efi vfat umask=0077,nofail 0 1\n' "$uuid" >"$root/etc/fstab"

mkfs.vfat -n LOADER -C "$out/loader.part" $((loader * 1024)) >/dev/null
mmd -i "$out/loader.part" ::EFI ::EFI/BOOT ::EFI/debian
mcopy -i "$out/loader.part" "$root/usr/lib/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i "$out/loader.part" "$root/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::EFI/BOOT/grubx64.efi
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n' "$uuid" | mcopy -i "$out/loader.part" - ::EFI/debian/grub.cfg
step "the file system" mkfs.ext4 -q -L root -U "$uuid" -d "$root" "$out/root.part" "$((size - loader - first - last))M"

truncate -s "${size}M" "$name.raw"
sfdisk -q "$name.raw" <<TABLE
label: gpt
start=${first}MiB, size=${loader}MiB, type=uefi, name=loader
start=$((first + loader))MiB, size=$((size - loader - first - last))MiB, type=linux, name=root
TABLE
dd if="$out/loader.part" of="$name.raw" bs=1M seek=$first conv=notrunc,sparse status=none
dd if="$out/root.part" of="$name.raw" bs=1M seek=$((first + loader)) conv=notrunc,sparse status=none
step "for qemu" qemu-img convert -c -f raw -O qcow2 "$name.raw" "$name.qcow2"
step "for Azure" qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on "$name.raw" "$name.vhd"
cat "$root"/usr/share/landfall/{packages,extras} >"$name.packages" 2>/dev/null || cp "$root/usr/share/landfall/packages" "$name.packages"
step "what is in it" target/debsbom/bin/debsbom generate --root "$root" --sbom-type cdx --out "$name.sbom" 2>"$out/sbom.log" ||
    { tail -n 5 "$out/sbom.log" >&2; die "no SBOM was made" "read $out/sbom.log"; }
rm -rf "$root" "$out"/*.part "$out/sbom.log"
ls -sh "$out"
