#!/bin/bash
# Installs, replaces, removes and purges the Debian package on machines of SUITE (bookworm or trixie): a bare one, and one with Docker where
# an app is rolled out meanwhile. `KEEP=yes` leaves the last machine for a look.
#   LANDFALL_PROGRAMS  a directory with the static programs; without it those of `make release`
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/machine.sh

suite=${1:-}
debs=$(mktemp -d)
export LANDFALL_PROGRAMS=${LANDFALL_PROGRAMS:-${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release}
export LANDFALL_DEB=$debs
cp "$(LANDFALL_VERSION=0.0.9 tools/build-deb.sh | tail -n 1)" "$debs/old.deb"
cp "$(tools/build-deb.sh | tail -n 1)" "$debs/new.deb"
machine_programs=/usr/bin
for kind in "$suite-bare without_docker" "$suite a_package"; do
    read -r image test <<<"$kind"
    DOCKER=$([[ $image = *-bare ]] && echo no || echo yes) tools/make-vm-image.sh "$suite"
    machine_start "$image"
    for deb in old new; do docker cp -q "$debs/$deb.deb" "$machine:/srv/"; done
    echo "${0##*/}: the package on $image with $(machine systemctl --version | head -n 1) in $machine"
    machine_test package --ignored --test-threads 1 "$test"
    machine_end
    trap - EXIT
done
rm -r "$debs"
