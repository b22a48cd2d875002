#!/bin/sh
# Starts dockerd and waits until it answers: by systemd where that is PID 1, else by hand.
# Also starts it again after a kill -9, which leaves its pid files and its containerd behind.
set -eu
me=${0##*/}
deadline=60
log=/var/log/dockerd.log
socket=/var/run/docker.sock
PATH=$PATH:/usr/sbin:/sbin

die() { echo "$me: $1; next: $2" >&2; exit 1; }
answers() { [ "$(timeout 5 curl -sf --unix-socket $socket http://localhost/_ping 2>/dev/null)" = OK ]; }
# The pid in a file if that process runs and is the program $2.
alive() { pid=$(cat "$1" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; }

if answers; then exit 0; fi
{ command -v dockerd && command -v curl; } >/dev/null || die "no dockerd or no curl here" "run \`tools/install-docker.sh\`"
[ "$(id -u)" = 0 ] || die "$(id -un) cannot start or reach dockerd" "run \`sudo tools/$me\`, or join the group docker"

# One start at a time; a second call waits here, and finds the daemon of the first.
exec 9>/run/landfall-start-docker.lock
flock -w $deadline 9 || die "another \`$me\` still holds the lock after $deadline s" "read the end of $log"
if answers; then exit 0; fi

if [ "$(cat /proc/1/comm)" = systemd ]; then
    echo "$me: starts docker.service and waits up to $deadline s for $socket"
    timeout $deadline systemctl start docker || die "docker.service did not start" "\`journalctl -u docker -n 50\`"
    log="the journal (\`journalctl -u docker\`)"
elif alive /var/run/docker.pid dockerd; then
    echo "$me: waits up to $deadline s for the dockerd that is starting (pid $pid)"
else
    echo "$me: starts dockerd with its log in $log and waits up to $deadline s for $socket"
    # A containerd that outlived its dockerd is taken over by the new one; pid files of dead
    # processes are not, once another process has got the same number.
    rm -f /var/run/docker.pid
    alive /var/run/docker/containerd/containerd.pid containerd || rm -f /var/run/docker/containerd/containerd.pid
    setsid dockerd </dev/null >>"$log" 2>&1 9>&- &
fi
end=$(($(date +%s) + deadline))
until answers; do
    [ "$(date +%s)" -lt "$end" ] || die "dockerd does not answer after $deadline s" "read the end of $log"
    [ -z "${!:-}" ] || kill -0 "$!" 2>/dev/null || die "dockerd ended: $(grep -v level=info "$log" | tail -n 1)" "read the end of $log"
    sleep 0.1
done
