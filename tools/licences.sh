#!/bin/bash
# Prints the licences of what is linked into the programs that ship for a TARGET: each crate with its own words, and each text once. The
# texts are those that lie in the crates' packages, as cargo has unpacked them. The same Cargo.lock gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "${0##*/}: $1; next: $2" >&2; exit 1; }

target=${1:-}
[ -n "$target" ] || die "no target" "\`tools/${0##*/} x86_64-unknown-linux-musl\`"
export LC_ALL=C.UTF-8
places=("${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/)
tree() {
    cargo tree --quiet --locked --target "$target" --edges normal,no-proc-macro --prefix none --no-dedupe --format '{p}|{l}' \
        -p landfall -p landfall-agent -p landfall-image-watcher -p landfall-secrets-fetcher -p landfall-exec
}
# Ours are named with their directory.
linked=$(tree | grep -v -e ' (/' -e '^$' | sort -u)

cat <<'END'
What is linked into Landfall's programs beside its own code. First each crate with the licence that it names, then the texts that its
package has, each once.

The standard library of Rust (https://www.rust-lang.org): Apache-2.0 OR MIT
musl (https://musl.libc.org): MIT, Copyright 2005-2020 Rich Felker, et al.
END
declare -A of=() file=()
order=()
remember() {
    local sum
    sum=$(tr -d '\r' <"$1" | sha256sum)
    [ -n "${of[$sum]:-}" ] || { order+=("$sum"); file[$sum]=$1; }
    of[$sum]+="${of[$sum]:+$'\n'}$2"
}
# Also for whoever has no text of its own.
remember LICENSE-MIT "Landfall; musl; what names MIT and has no text"
remember LICENSE-APACHE "Landfall; what names Apache-2.0 and has no text"
while IFS='|' read -r crate licence; do
    name=${crate% v*} version=${crate##* v}
    directory=$(find "${places[@]}" -maxdepth 1 -name "$name-$version" -print -quit)
    [ -n "$directory" ] || die "the package of $name $version is not unpacked here" "\`cargo fetch\`"
    texts=$(find "$directory" -maxdepth 3 -type f -iregex '.*/\(un\)?\(licen[sc]e\|copying\|notice\|copyright\)[^/]*' -not -name '*.rs' | sort)
    authors=
    [ -n "$texts" ] || authors="; by $(sed -n 's/^authors = \[\(.*\)\]/\1/p' "$directory/Cargo.toml" | tr -d '"'), without a text"
    echo "$name $version: ${licence:-no name, see its text}$authors"
    while read -r text; do [ -z "$text" ] || remember "$text" "$name $version"; done <<<"$texts"
done <<<"$linked"
for sum in "${order[@]}"; do
    printf '\n%s\n%s\n\n' "----------------------------------------" "${of[$sum]}"
    tr -d '\r' <"${file[$sum]}"
done
