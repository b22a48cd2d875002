#!/bin/bash
# Puts programs that Debian has no package of into the root file system ROOT: `image-extras.sh ROOT LIST [DIR]`. LIST is as
# packaging/image/extras, DIR has the files. Only what has the checksum of the list goes in, and with it its unit is enabled; a unit whose
# program is not in DIR stays disabled. With nothing (`''`) for ROOT it only looks.
set -euo pipefail
die() { echo "${0##*/}: $1; next: $2" >&2; exit 1; }

[ $# -ge 2 ] || die "it needs two words" "\`tools/${0##*/} ROOT LIST [DIR]\`"
root=$1 list=$2 files=${3:-} known=
[ -z "$files" ] || [ -d "$files" ] || die "there is no directory \`$files\`" "say EXTRAS=DIR with one, or nothing"

# All is looked at before anything goes in.
while read -r name version sum member place unit url more; do
    [[ $name != \#* && -n $name ]] || continue
    [[ $sum =~ ^[0-9a-f]{64}$ ]] || die "\`$name\` of $list has no checksum (\`$sum\`)" "write the SHA-256 of its release, 64 small hex digits"
    [[ -n $url && -z $more && $place == /* ]] || die "the line of \`$name\` in $list has not its seven words" "see the head of packaging/image/extras"
    file=${url##*/} known+=" ${url##*/}"
    [ -n "$files" ] && [ -f "$files/$file" ] || continue
    got=$(sha256sum <"$files/$file") got=${got%% *}
    [ "$got" = "$sum" ] ||
        die "\`$files/$file\` is not $name $version: its SHA-256 is $got, and $list has $sum" "fetch it again from $url"
done <"$list"
for file in ${files:+"$files"/*}; do
    [[ -e $file && " $known " != *" ${file##*/} "* ]] || continue
    die "\`$file\` is in no line of $list" "take it out of the directory, or pin it there"
done

[ -n "$root" ] || exit 0
[ -z "$files" ] || "${BASH_SOURCE%/*}/install-packages.sh" 'to unpack extras' unzip -- unzip
while read -r name version _ member place unit url; do
    [[ $name != \#* && -n $name ]] || continue
    file=$files/${url##*/}
    if [ -z "$files" ] || [ ! -f "$file" ]; then
        echo "${0##*/}: without $name: $unit stays disabled${files:+, for $files has no ${url##*/}}; with it: EXTRAS=DIR, and in DIR $url"
        continue
    fi
    mkdir -p "$root${place%/*}"
    if [ "$member" = - ]; then cp "$file" "$root$place"; else unzip -p "$file" "$member" >"$root$place"; fi
    chmod 755 "$root$place"
    file=/usr/lib/systemd/system/$unit
    wants=$root/etc/systemd/system/$(sed -n 's/^WantedBy=//p' "$root$file").wants
    mkdir -p "$wants" "$root/usr/share/landfall"
    ln -sfn "$file" "$wants/$unit"
    echo "$name $version" >>"$root/usr/share/landfall/extras"
    echo "${0##*/}: with $name $version; $unit is enabled"
done <"$list"
