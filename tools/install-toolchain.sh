#!/bin/sh
# Installs what the build needs: the toolchain and targets of rust-toolchain.toml by rustup, and
# make, gcc and musl-tools (ring compiles C for the musl target).
set -eu
me=${0##*/}
cd "$(dirname "$0")/.."
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

die() { echo "$me: $1; next: $2" >&2; exit 1; }
# The quoted words of a key of rust-toolchain.toml.
pinned() { sed -n "s/^$1 *= *//p" rust-toolchain.toml | tr -d '[]",'; }
channel=$(pinned channel) components=$(pinned components) targets=$(pinned targets)
[ -n "$channel" ] || die "rust-toolchain.toml names no channel" "\`git checkout rust-toolchain.toml\`"

packages=
command -v make >/dev/null || packages="$packages make"
command -v gcc >/dev/null || packages="$packages gcc libc6-dev"
command -v musl-gcc >/dev/null || packages="$packages musl-tools"
[ -s /etc/ssl/certs/ca-certificates.crt ] || packages="$packages ca-certificates"
command -v rustup >/dev/null || packages="$packages rustup"
if [ -n "$packages" ]; then
    echo "$me: installs$packages with apt"
    [ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo apt-get install$packages\`, then \`tools/$me\`"
    dpkg --configure -a || true # what an interrupted run left behind
    [ -n "$(apt-cache madison musl-tools)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
    case $packages in # Debian 12 has no rustup
    *rustup) [ -n "$(apt-cache madison rustup)" ] || tools/add-trixie.sh ;;
    esac
    suite= # where libc6 is already trixie's, libc6-dev has to be
    [ ! -e /etc/apt/preferences.d/landfall-trixie ] || suite=trixie
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 ${suite:+-t $suite} $packages ||
        die "apt could not install$packages" "read apt's message above, or install rustup from https://rustup.rs"
fi

have=$(rustup component list --installed --toolchain "$channel" 2>/dev/null || true)
missing=
case $have in *rustc-*) ;; *) missing=" rustc" ;; esac
for name in $components; do case $have in *"$name-"*) ;; *) missing="$missing $name" ;; esac done
for name in $targets; do case $have in *"rust-std-$name"*) ;; *) missing="$missing rust-std-$name" ;; esac done
if [ -n "$missing" ]; then
    echo "$me: installs$missing of Rust $channel with rustup"
    trap '[ $? = 0 ] || echo "$me: rustup failed at Rust $channel ($components, $targets); next: read its message above; it needs https://static.rust-lang.org, or RUSTUP_DIST_SERVER" >&2' EXIT
    # Only what is missing: `toolchain install` would take away for a while what a build is using.
    case $missing in *" rustc"*) rustup toolchain install "$channel" --profile minimal --no-self-update ;; esac
    for name in $components; do rustup component add --toolchain "$channel" "$name"; done
    for name in $targets; do rustup target add --toolchain "$channel" "$name"; done
fi
