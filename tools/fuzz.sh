#!/bin/bash
# Fuzzes the parsers of what strangers send, FUZZ_SECONDS (60) each: libFuzzer, guided by the coverage that the pinned stable
# compiler can count. It has no sanitizers; our code has no unsafe for them to watch. What is found lies in target/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/step.sh
seconds=${FUZZ_SECONDS:-60}
machine=$(uname -m)-unknown-linux-gnu
targets="manifest bundle pointer challenge"

# With `--target`, so that build scripts and macros are not counted.
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares" \
    step "the fuzz targets" cargo build --locked --release --manifest-path fuzz/Cargo.toml --target "$machine" --target-dir target/fuzz

for name in $targets; do
    mkdir -p "target/fuzz/corpus/$name"
    log=target/fuzz/$name.log
    echo "${0##*/}: $name, $seconds s"
    "target/fuzz/$machine/release/$name" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 -max_len=4096 -dict=fuzz/words.dict \
        -artifact_prefix="target/fuzz/$name-" -print_final_stats=1 "target/fuzz/corpus/$name" "fuzz/seeds/$name" 2>"$log" || {
        tail -n 40 "$log" >&2
        echo "${0##*/}: $name failed; next: give it the file that it names above, and make that a test beside the parser" >&2
        exit 1
    }
    tail -n 20 "$log" | grep -E "DONE|number_of_executed|peak_rss" || true
done
