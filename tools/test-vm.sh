#!/bin/bash
# Boots the VM image's root file system in a container, blank but for a seed of cloud-init, and lives through what happens to a VM:
# tests/tests/whole_vm.rs. More words are for the test program: names, `--nocapture`. `KEEP=yes` leaves the machines for a look.
#   LANDFALL_PROGRAMS  a directory with static programs; without it those that the tests run
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target} static=${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release

packed=$(mktemp -d /var/tmp/landfall-machine-XXXXXX)
trap 'rm -rf "$packed"' EXIT
if [ -z "${LANDFALL_PROGRAMS:-}" ]; then
    mkdir "$packed/programs"
    cp "$target"/quick/landfall{,-agent,-image-watcher,-secrets-fetcher} "$static/landfall-exec" "$packed/programs/"
fi
LANDFALL_LINT=no LANDFALL_PROGRAMS=${LANDFALL_PROGRAMS:-$packed/programs} LANDFALL_DEB=$packed/deb tools/build-deb.sh
deb=$(echo "$packed"/deb/landfall_*.deb)

# Made once for each state of what it is made of, our package included.
image=landfall-machine
version=$({ cat tools/image-{root,extras}.sh packaging/image/{install.sh,packages} "$deb"; tar --sort=name --mtime=@0 -C packaging/image -c root; } | sha256sum | cut -c 1-16)
if [ "$(docker image inspect --format '{{index .Config.Labels "io.landfall.vm"}}' "$image" 2>/dev/null)" != "$version" ]; then
    tools/image-root.sh "$packed/root" "$deb"
    # The root must be shared, as on a machine, or no credential and no mount reaches a unit.
    tar -C "$packed/root" -c . | docker import --change 'CMD ["/bin/sh", "-c", "mount --make-rshared / && exec /lib/systemd/systemd"]' \
        --change 'STOPSIGNAL SIGRTMIN+3' --change "LABEL io.landfall.vm=$version" - "$image" >/dev/null
    rm -rf "$packed/root"
fi

# Before the machines: the tests count in seconds what they wait for.
program=$(cargo test --profile quick --workspace --test whole_vm --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
LANDFALL_MACHINE=$image unshare --net "$program" --ignored --test-threads 1 "$@"
