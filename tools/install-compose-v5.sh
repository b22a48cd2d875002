#!/bin/sh
# Builds Docker Compose 5.5.0 from its Go module into target/compose-v5, for the tests that run
# against the newest major version. Last line: the path of the plugin, to be run directly.
set -eu
version=5.5.0
module=github.com/docker/compose/v5
me=${0##*/}
cd "$(dirname "$0")/.."
plugin=$PWD/target/compose-v5/docker-compose

die() { echo "$me: $1; next: $2" >&2; exit 1; }
# From 1.21 on, go fetches by itself the newer toolchain that a module asks for.
go_usable() { command -v go >/dev/null && dpkg --compare-versions "$(go env GOVERSION | sed 's/^go//')" ge 1.21; }

if [ "$("$plugin" version --short 2>/dev/null)" = "$version" ]; then echo "$plugin"; exit; fi

PATH=$PATH:/usr/local/go/bin
if ! go_usable; then
    echo "$me: installs golang-go with apt"
    [ "$(id -u)" = 0 ] || die "no go >= 1.21 here, and $(id -un) cannot install packages" "run \`sudo tools/$me\`, or install Go from https://go.dev/dl"
    suite=
    case $(apt-cache policy golang-go | sed -n 's/^  Candidate: 2://p') in
    1.19*) suite=trixie && tools/add-trixie.sh ;; # Debian 12
    esac
    dpkg --configure -a || true # what an interrupted run left behind
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 ${suite:+-t $suite} golang-go ca-certificates || true
    go_usable || die "apt could not install golang-go >= 1.21" "read apt's message above, or install Go from https://go.dev/dl"
fi

echo "$me: builds Compose $version from $module into target/compose-v5, in some minutes"
export GOTOOLCHAIN=auto GOFLAGS=-buildvcs=false CGO_ENABLED=0
proxy="it needs a Go module proxy (\`go env GOPROXY\`)"
source=$(go mod download -json "$module@v$version" | sed -n 's/^\t"Dir": "\(.*\)",*/\1/p')
[ -d "$source" ] || die "go could not fetch $module@v$version" "read its message above; $proxy"
mkdir -p "${plugin%/*}"
(cd "$source" && nice go build -trimpath -ldflags "-s -w -X $module/internal.Version=$version" -o "$plugin.tmp" ./cmd) ||
    die "Compose $version did not build" "read go's message above; $proxy"
mv "$plugin.tmp" "$plugin"
[ "$("$plugin" version --short)" = "$version" ] || die "$plugin does not report $version" "delete it and run \`tools/$me\` again"
echo "$plugin"
