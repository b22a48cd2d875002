#!/bin/sh
# Builds cargo-deny, which only `make check` needs, at the version pinned here.
set -eu
version=0.20.2
me=${0##*/}
cd "$(dirname "$0")/.."
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if [ "$(cargo-deny --version 2>/dev/null)" = "cargo-deny $version" ]; then exit 0; fi
command -v cargo >/dev/null || die "no cargo here" "run \`tools/install-toolchain.sh\`"
echo "$me: builds cargo-deny $version with cargo, in some minutes; an interrupted build goes on from target/cargo-deny"
nice cargo install --locked --version "$version" --target-dir target/cargo-deny cargo-deny ||
    die "cargo-deny $version did not build" "read cargo's message above; without a registry set \`[source]\` in ~/.cargo/config.toml"
rm -rf target/cargo-deny
