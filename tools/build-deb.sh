#!/bin/bash
# Packs target/deb/landfall_VERSION_ARCH.deb with debhelper, out of packaging/, the static programs and the manual, and has lintian judge it.
#   ARCH               amd64 or arm64; without it this machine's
#   LANDFALL_PROGRAMS  a directory with the static programs; without it they are built
#   LANDFALL_VERSION   another version than the workspace's, for tests of upgrades
#   LANDFALL_DEB       where to build, in place of target/deb
#   LANDFALL_LINT      `no` packs programs that are not made to be shipped: those of tests
# The last line is the package's path. The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/step.sh
die() { echo "${0##*/}: $1; next: $2" >&2; exit 1; }

arch=${ARCH:-$(dpkg --print-architecture)}
version=${LANDFALL_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
out=${LANDFALL_DEB:-target/deb}
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) die "no package for \`$arch\`" "\`make deb ARCH=amd64\` or \`ARCH=arm64\`" ;;
esac
tools/install-packages.sh 'to pack and to judge a package' dh lintian dpkg-buildpackage -- debhelper dpkg-dev lintian
programs=${LANDFALL_PROGRAMS:-${CARGO_TARGET_DIR:-target}/$machine-unknown-linux-musl/release}
[ -n "${LANDFALL_PROGRAMS:-}" ] || TARGET=$machine-unknown-linux-musl tools/build-release.sh
step "the manual, from the definition of the command line" cargo build --quiet --profile quick --workspace --example manual

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C.UTF-8
tree=$out/$arch root=$out/$arch/root
rm -rf "$tree" && mkdir -p "$root" && cp -r packaging/deb/debian "$tree/"
cp -r packaging/etc packaging/usr "$root/"
install -D -m 0755 -t "$root/usr/bin" "$programs/landfall"
install -D -m 0755 -t "$root/usr/libexec/landfall" "$programs"/landfall-{agent,image-watcher,secrets-fetcher,exec}
"${CARGO_TARGET_DIR:-target}/quick/examples/manual" "$root/usr/share"
install -D -m 0644 -t "$root/usr/share/doc/landfall" README.md CHANGELOG.md docs/operations.md docs/architecture.md docs/azure.md \
    cloud-init/values.yaml
tools/licences.sh "$machine-unknown-linux-musl" >"$root/usr/share/doc/landfall/third-party.txt"
chmod 0644 "$root/usr/share/doc/landfall/third-party.txt"

# Debian's own changelog: the newest section of ours.
{
    printf 'landfall (%s) unstable; urgency=medium\n\n' "$version"
    awk '/^## /{ if (n++) exit; next } n && /^(- |  )/ { sub(/^ +/, " "); sub(/^- /, "\n* "); printf "%s", $0 } END { print "" }' CHANGELOG.md |
        tail -n +2 | fold -s -w 74 | sed 's/ *$//; /^\* /!s/^/    /; s/^\* /  &/'
    printf '\n -- The Landfall authors <maintainers@landfall.example>  %s\n' "$(date -R -d "@$SOURCE_DATE_EPOCH")"
} >"$tree/debian/changelog"

(cd "$tree" && dpkg-buildpackage --host-arch "$arch" --build=binary --no-sign --no-check-builddeps) >"$out/$arch.log" 2>&1 ||
    { tail -n 30 "$out/$arch.log" >&2; die "dpkg-buildpackage failed" "read $out/$arch.log"; }
deb=$out/landfall_${version}_$arch.deb
[ "${LANDFALL_LINT:-yes}" = no ] || lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$deb" || die "lintian has something to say of $deb" "correct it in packaging/"
echo "$deb"
