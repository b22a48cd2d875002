#!/bin/sh
# Installs what builds static programs for another machine, and runs them once: the target's standard library, a C compiler that also
# links, and qemu. `tools/install-cross.sh aarch64-unknown-linux-musl`. Fails naming what cannot be had.
set -eu
me=${0##*/}
target=$1
machine=${target%%-*}
case $machine in aarch64) arch=arm64 ;; x86_64) arch=amd64 ;; *) arch=$machine ;; esac
packages="gcc-$(echo "$machine" | tr _ -)-linux-gnu libc6-dev-$arch-cross qemu-user-static"
cd "$(dirname "$0")/.."
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if ! rustup target list --installed | grep -qx "$target"; then
    echo "$me: installs the standard library of $target with rustup"
    rustup target add "$target" || die "no standard library of \`$target\` here" "read rustup's message above; without a network build on a machine of that kind"
fi
# shellcheck disable=SC2086 # a list of words
if dpkg -s $packages >/dev/null 2>&1; then exit 0; fi
echo "$me: installs the packages $packages with apt"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me $target\`"
[ -n "$(apt-cache madison qemu-user-static)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 $packages ||
    die "apt could not install $packages, which compile C for $machine, link, and run what was built" "read apt's message above"
