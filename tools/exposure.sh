#!/bin/bash
# Prints how exposed each daemon's unit is, by systemd's own judgement of the file, and fails above 1.1.
set -euo pipefail
cd "$(dirname "$0")/.."
threshold=11 # tenths

for unit in packaging/usr/lib/systemd/system/landfall-{agent,image-watcher,secrets-fetcher,secrets-owner@}.service; do
    judged=$(systemd-analyze security --no-pager --offline=true --threshold=$threshold "$unit" 2>&1) && good=yes || good=no
    tail -n 1 <<<"$judged"
    if [ $good = no ]; then
        echo "${0##*/}: $unit is more exposed than 1.1; next: \`systemd-analyze security --offline=true $unit\` says by what" >&2
        exit 1
    fi
done
