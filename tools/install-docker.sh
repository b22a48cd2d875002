#!/bin/sh
# Installs Docker Engine >= 26.1 and the Compose plugin >= 2.26 from the distribution.
# It does not start the daemon: tools/start-docker.sh does. Last line: the plugin's path.
set -eu
engine_min=26.1
compose_min=2.26
me=${0##*/}

die() { echo "$me: $1; next: $2" >&2; exit 1; }
at_least() { [ -n "$1" ] && dpkg --compare-versions "$1" ge "$2"; }

# The version of a daemon that answers, else of the one that is installed.
engine_version() {
    timeout 5 curl -sf --unix-socket /var/run/docker.sock http://localhost/version 2>/dev/null |
        sed -n 's/.*"Components":\[{"Name":"Engine","Version":"\([0-9.]*\).*/\1/p' | grep . ||
        dockerd --version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p'
}
# The first plugin that is new enough, in the order in which the docker client looks.
compose_plugin() {
    for dir in "${HOME:-/root}/.docker" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
        plugin=$dir/cli-plugins/docker-compose
        [ -x "$plugin" ] || continue
        at_least "$("$plugin" version --short 2>/dev/null | tr -d v)" "$compose_min" && echo "$plugin" && return
    done
    return 1
}
ready() { at_least "$(engine_version)" "$engine_min" && plugin=$(compose_plugin); }

PATH=$PATH:/usr/sbin:/sbin
command -v dpkg >/dev/null || die "no dpkg here" "use Debian 12 or 13, or Ubuntu 24.04"
if ready; then echo "$plugin"; exit; fi
[ "$(id -u)" = 0 ] || die "cannot install packages as $(id -un)" "run \`sudo tools/$me\`"

candidate() { apt-cache policy docker.io | sed -n 's/^  Candidate: \([0-9.]*\).*/\1/p'; }
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold "$@"; }
at_least "$(candidate)" "$engine_min" || { echo "$me: updates apt's lists" && apt update; } || die "\`apt-get update\` failed" "read apt's message above"
packages="docker.io docker-compose-v2" # Ubuntu's name of the plugin
apt-cache show docker-compose-v2 >/dev/null 2>&1 || packages="docker.io docker-compose docker-cli"
suite=
at_least "$(candidate)" "$engine_min" || suite=trixie # Debian 12
echo "$me: installs curl nftables $packages with apt${suite:+, the last ones from Debian $suite with its C library}"
dpkg --configure -a || true # what an interrupted run left behind
[ -z "$suite" ] || "${0%/*}/add-trixie.sh"
# shellcheck disable=SC2086 # a list of words
{ apt install curl nftables && apt install ${suite:+-t $suite} $packages; } ||
    die "apt could not install $packages" "read apt's message above and run \`tools/$me\` again"
ready || die "Engine '$(engine_version)' or its Compose plugin is older than $engine_min and $compose_min" \
    "remove the other Docker that hides the installed one (\`which -a dockerd\`)"
# dockerd needs both; a kernel without nf_tables fails here and not later in dockerd's log.
for list in "iptables -t nat -S" "nft list tables"; do
    $list >/dev/null || die "\`$list\` fails" "load the kernel's nf_tables modules, or \`update-alternatives --config iptables\`"
done
echo "$plugin"
