#!/bin/bash
# Builds what the tests and `make try` run: our programs with the profile quick, and the sample as a
# static binary. Says at least every 4 s that it is still at it.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    echo "build.sh: $1"
    shift
    local began=$SECONDS last
    "$@" &
    local build=$!
    trap 'kill $build 2>/dev/null' EXIT
    last=$SECONDS
    while kill -0 $build 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - last >= 4)); then
            last=$SECONDS
            echo "build.sh: still building, $((SECONDS - began)) s"
        fi
    done
    trap - EXIT
    wait $build
}

step "the sample, static" cargo build --release --target "$(uname -m)-unknown-linux-musl" -p landfall-sample
step "landfall, landfall-agent, landfall-image-watcher, the tests" cargo build --profile quick --workspace
