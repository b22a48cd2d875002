#!/bin/bash
# To be sourced by what builds static programs: sets `target` (TARGET, else this machine's) and `runner` (what runs a program of it), and
# keeps the builder's paths out of the programs. It adds to .cargo/config.toml. All that builds into one directory must do so alike, or
# each builds everything anew.

target=${TARGET:-$(uname -m)-unknown-linux-musl}
runner=
name=${target^^} name=${name//-/_}
export "CARGO_TARGET_${name}_RUSTFLAGS=--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/crates"
if [ "${target%%-*}" != "$(uname -m)" ]; then
    runner=qemu-${target%%-*}-static
    export "CC_${target//-/_}=${target%%-*}-linux-gnu-gcc" "CARGO_TARGET_${name}_LINKER=${target%%-*}-linux-gnu-gcc"
fi
