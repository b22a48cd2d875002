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

begin() {
    machine_start "$1"
    for deb in old new; do docker cp -q "$debs/$deb.deb" "$machine:/srv/"; done
    echo "${0##*/}: the package on $1 with $(machine systemctl --version | head -n 1) in $machine"
}
end() {
    machine_end
    trap - EXIT
}
# Our test programs want a newer C library than a bare Debian 12 has.
says() { machine systemctl show --value --property StatusText "$1" | grep "$2"; }
alone() { [ "$(machine getent group docker | cut -d : -f 4)" = landfall-agent ]; }

DOCKER=no tools/make-vm-image.sh "$suite"
begin "$suite-bare"
machine apt-get install -qy --no-install-recommends /srv/old.deb >/dev/null
for unit in landfall-{agent,image-watcher,secrets-fetcher,host}.service landfall-host.timer landfall-secrets-owner.socket landfall.target; do
    machine_wait "$unit is up" machine systemctl is-active "$unit"
done
machine_wait "the agent says in a sentence that Docker is missing, and what to install" says landfall-agent 'Docker.*install'
machine_wait "nobody but the agent is in group docker" alone
machine apt-get purge -qy landfall >/dev/null
end

tools/make-vm-image.sh "$suite"
begin "$suite"
machine_test package --ignored --test-threads 1
end
rm -r "$debs"
