#!/bin/sh
# Puts Prometheus' promtool, which judges metrics, alerts and the dashboard's queries, into target/promtool. Only that program is
# taken from Debian's package: nothing is installed, and no server is started.
set -eu
me=${0##*/}
cd "$(dirname "$0")/.."
into=$PWD/target/promtool
die() { echo "$me: $1; next: $2" >&2; exit 1; }

if "$into/promtool" --version >/dev/null 2>&1; then exit 0; fi
echo "$me: takes promtool from the package prometheus into target/promtool"
[ -n "$(apt-cache madison prometheus)" ] || apt-get update -q || die "\`apt-get update\` failed" "read apt's message above"
rm -rf "$into"
mkdir -p "$into"
(cd "$into" && apt-get download -q prometheus) || die "apt could not fetch prometheus" "read apt's message above; on Ubuntu it is in \`universe\`"
dpkg-deb -x "$into"/prometheus_*.deb "$into/package"
mv "$into/package/usr/bin/promtool" "$into/promtool"
rm -rf "$into/package" "$into"/prometheus_*.deb
"$into/promtool" --version | head -n 1
