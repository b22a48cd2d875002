#!/bin/sh
# On Debian 12: adds the suite trixie of the mirror apt already uses, at priority 100, so that
# nothing comes from it unless it is asked for with `apt-get install -t trixie`.
set -eu
me=${0##*/}
die() { echo "$me: $1; next: $2" >&2; exit 1; }
list=/etc/apt/sources.list.d/landfall-trixie.sources
pin=/etc/apt/preferences.d/landfall-trixie

# The quick way out; apt leaves unfinished lists in partial/.
if [ -s "$pin" ] && ls /var/lib/apt/lists/*_dists_trixie_main_binary-*_Packages* >/dev/null 2>&1; then exit 0; fi
echo "$me: adds the suite trixie at priority 100 ($list, $pin) and updates apt's lists"
[ "$(id -u)" = 0 ] || die "cannot write to /etc/apt as $(id -un)" "run it as root"
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | sed -n 's/ bookworm$//p' | head -n 1)
[ -n "$mirror" ] || die "this system's packages are too old, and apt has no mirror of Debian 12 (bookworm)" "use Debian 12 or 13, or Ubuntu 24.04"
printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' >"$pin"
printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" >"$list"
apt-get update -q || die "\`apt-get update\` failed with trixie of $mirror" "read apt's message above; to undo: rm $list $pin"
