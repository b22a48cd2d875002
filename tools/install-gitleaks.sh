#!/bin/sh
# Builds gitleaks, which looks for secrets in what we write, with Go into target/gitleaks (after tools/install-compose-v5.sh, which
# brings Go).
set -eu
version=8.30.1
me=${0##*/}
cd "$(dirname "$0")/.."
into=$PWD/target/gitleaks
if [ -x "$into/gitleaks" ] && [ "$(cat "$into/installed")" = "$version" ]; then exit 0; fi

PATH=$PATH:/usr/local/go/bin
echo "$me: builds gitleaks $version into target/gitleaks, in some minutes"
mkdir -p "$into"
GOBIN=$into GOTOOLCHAIN=auto CGO_ENABLED=0 nice go install "github.com/zricethezav/gitleaks/v8@v$version" || {
    echo "$me: gitleaks $version did not build; next: read go's message above; it needs a Go module proxy (\`go env GOPROXY\`)" >&2
    exit 1
}
echo "$version" >"$into/installed"
