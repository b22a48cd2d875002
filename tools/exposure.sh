#!/bin/bash
# Prints how exposed each daemon's unit is, and those beside them, by systemd's own judgement of the file, and fails above 1.1. Break-glass
# binds ports below 1024 and meets the internet: 1.4.
set -euo pipefail
cd "$(dirname "$0")/.."
units=packaging/usr/lib/systemd/system beside=packaging/image/root/usr/lib/systemd/system

for unit in $units/landfall-{agent,image-watcher,secrets-fetcher,secrets-owner@,break-glass}.service $beside/{cloudflared,alloy}.service; do
    threshold=11 # tenths
    [[ $unit != *break-glass* ]] || threshold=14
    judged=$(systemd-analyze security --no-pager --offline=true --threshold=$threshold "$unit" 2>&1) && good=yes || good=no
    tail -n 1 <<<"$judged"
    if [ $good = no ]; then
        echo "${0##*/}: $unit is more exposed than $((threshold / 10)).$((threshold % 10)); next: \`systemd-analyze security --offline=true $unit\` says by what" >&2
        exit 1
    fi
done
