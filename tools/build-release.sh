#!/bin/bash
# Builds what ships, and what `make bench` measures: static programs with the profile release, into
# target/<machine>-unknown-linux-musl/release; TARGET names another machine's. Says at least every 4 s that it is still at it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/step.sh
. tools/release-flags.sh

[ -z "$runner" ] || tools/install-cross.sh "$target"
# landfall-exec is mounted into containers and started for each probe.
exec_limit=600000

step "landfall, landfall-agent, landfall-image-watcher, landfall-secrets-fetcher, landfall-exec, the sample: static, optimised; some minutes the first time" \
    cargo build --release --target "$target" \
    -p landfall -p landfall-agent -p landfall-image-watcher -p landfall-secrets-fetcher -p landfall-exec -p landfall-sample

# They run, if only to say who they are; those of another machine under qemu.
for program in landfall landfall-{agent,image-watcher,secrets-fetcher,exec}; do
    $runner "${CARGO_TARGET_DIR:-target}/$target/release/$program" --version
done

exec_size=$(stat -c %s "${CARGO_TARGET_DIR:-target}/$target/release/landfall-exec")
if ((exec_size > exec_limit)); then
    echo "${0##*/}: landfall-exec has $exec_size bytes, more than $exec_limit; next: see what made it grow (docs/decisions/0012-landfall-exec.md)" >&2
    exit 1
fi
