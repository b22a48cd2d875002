#!/bin/bash
# Builds what the tests and `make try` run: our programs with the profile quick, and what lies
# in containers, the sample and landfall-exec, static. Says at least every 4 s that it is still at it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/step.sh
. tools/release-flags.sh

step "the sample and landfall-exec, static" \
    cargo build --release --target "$target" -p landfall-sample -p landfall-exec
step "landfall, landfall-agent, landfall-image-watcher, landfall-secrets-fetcher, the tests" cargo build --profile quick --workspace
