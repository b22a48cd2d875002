#!/bin/sh
# Installs systemd's programs (`journalctl`), with which tests judge what is shipped for it. Nothing is started.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if command -v journalctl >/dev/null; then exit 0; fi
echo "$me: installs the package systemd with apt"
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"
[ -n "$(apt-cache madison systemd)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
dpkg --configure -a || true # what an interrupted run left behind
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 systemd ||
    die "apt could not install systemd" "read apt's message above"
