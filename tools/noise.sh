#!/bin/bash
# Runs a command on a machine that is busy with something else: two loops for each core, and a writer that has every byte on the disk.
#   tools/noise.sh make test
# What fails here and not in quiet is a race of a test or of ours. Deadlines may pass too where a core has many who want it: each is looked at.
set -uo pipefail
[ $# -gt 0 ] || { echo "noise.sh: which command? \`tools/noise.sh make test\`" >&2; exit 2; }
file=$(mktemp "${TMPDIR:-/var/tmp}/landfall-noise-XXXXXX")
neighbours=()
trap 'kill "${neighbours[@]}" 2>/dev/null; wait "${neighbours[@]}" 2>/dev/null; rm -f "$file"' EXIT
for ((loop = 0; loop < 2 * $(nproc); loop++)); do
    while :; do :; done &
    neighbours+=($!)
done
while dd if=/dev/zero of="$file" bs=1M count=300 conv=fsync status=none; do :; done &
neighbours+=($!)
"$@"
