#!/bin/bash
# Builds what ships, and what `make bench` measures: static programs with the profile release, into
# target/<machine>-unknown-linux-musl/release. Says at least every 4 s that it is still at it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/step.sh

step "landfall, landfall-agent, landfall-image-watcher, the sample: static, optimised; some minutes the first time" \
    cargo build --release --target "$(uname -m)-unknown-linux-musl" \
    -p landfall -p landfall-agent -p landfall-image-watcher -p landfall-sample
