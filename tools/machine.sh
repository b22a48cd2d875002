#!/bin/bash
# To be sourced: a machine in a container, made of tools/make-vm-image.sh, with this repository at its own path, to read.
# `machine_start SUITE` or `machine_start SUITE-bare`, then `machine COMMAND…` runs in it; `machine_install` puts in place what the package
# would; `machine_test NAME TESTS…` runs a test program of ours in it.

machine_start() {
    case $PWD/ in
    /tmp/* | /run/*)
        echo "${0##*/}: a machine has a /tmp and a /run of its own, which would hide \`$PWD\`; next: work in another directory" >&2
        return 1
        ;;
    esac
    machine=landfall-machine-$1-$$
    trap machine_end EXIT
    docker run -d --name "$machine" --label io.landfall.machine=test --hostname vm --privileged --cgroupns=private \
        --tmpfs /run --tmpfs /run/lock -e container=docker -m 8g -v "$PWD:$PWD:ro" -v /var/lib/docker -v /var/lib/containerd -v /srv/landfall "landfall-vm:$1" >/dev/null
    case $1 in
    *-bare) machine_wait "systemd answers" machine systemctl list-units ;;
    *) machine_wait "dockerd answers" machine docker info ;;
    esac
}

machine_end() {
    if [ "${KEEP:-no}" = yes ]; then
        echo "${0##*/}: left running: \`docker exec -it $machine bash\`; \`docker rm -fv $machine\` removes it"
    else
        docker rm -fv "$machine" >/dev/null
    fi
}

machine() { docker exec "$machine" "$@"; }

# Looks every 0.2 s, for a minute.
machine_wait() {
    local what=$1
    shift
    for ((look = 0; look < 300; look++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    echo "${0##*/}: not within a minute: $what; next: \`$*\`" >&2
    return 1
}

machine_install() {
    local target=${CARGO_TARGET_DIR:-target} static
    machine_programs=/usr/libexec/landfall
    static=$target/$(uname -m)-unknown-linux-musl/release
    machine mkdir -p /usr/libexec/landfall
    for program in landfall landfall-agent landfall-image-watcher landfall-secrets-fetcher; do
        docker cp -q "$target/quick/$program" "$machine:/usr/libexec/landfall/"
    done
    docker cp -q "$static/landfall-exec" "$machine:/usr/libexec/landfall/"
    docker cp -q "$target/quick/landfall" "$machine:/usr/bin/"
    tar -C packaging -c usr etc | docker exec -i "$machine" tar -C / -x --no-same-owner
    machine systemd-sysusers
    machine systemctl daemon-reload
}

# Not below /tmp: units have one of their own.
machine_test() {
    local program
    program=$(cargo test --profile quick --workspace --test "$1" --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    shift
    machine mkdir -p /srv/landfall
    machine env TMPDIR=/srv/landfall LANDFALL_UNITS=/ LANDFALL_PROGRAMS="$machine_programs" LANDFALL_DEBS=/srv "$PWD/${program#"$PWD/"}" "$@"
}
