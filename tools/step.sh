#!/bin/bash
# To be sourced: `step WHAT COMMAND…` runs a build and says at least every 4 s that it is still at it.

step() {
    echo "${0##*/}: $1"
    shift
    local began=$SECONDS last
    "$@" &
    local build=$!
    # shellcheck disable=SC2064 # the id of this build
    trap "kill $build 2>/dev/null" EXIT
    last=$SECONDS
    while kill -0 $build 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - last >= 4)); then
            last=$SECONDS
            echo "${0##*/}: still building, $((SECONDS - began)) s"
        fi
    done
    trap - EXIT
    wait $build
}
