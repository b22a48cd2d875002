#!/bin/sh
# Installs the CNCF Distribution registry (`docker-registry`) that the tests start by themselves.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if command -v docker-registry >/dev/null && docker-registry --version >/dev/null 2>&1; then exit 0; fi
echo "$me: installs the package docker-registry with apt; its service stays disabled"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison docker-registry)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 docker-registry ||
    die "apt could not install docker-registry" "read apt's message above; on Ubuntu it is in \`universe\`"
# Where systemd runs, the package starts a registry on port 5000 that no test asked for.
[ "$(cat /proc/1/comm)" != systemd ] || systemctl disable --now docker-registry
docker-registry --version
