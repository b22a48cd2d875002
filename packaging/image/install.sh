#!/bin/sh
# Makes a bare Debian 13 a machine of Landfall, from inside: `install.sh DEB LIST…`. Beside it lie `root` and the lists of packages. Run by
# tools/image-root.sh in a root file system, and by azure.pkr.hcl on a machine in Azure.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
deb=$(realpath "$1")
shift
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# No package starts a service in here, or one machine's state would be everybody's.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
# Ours first: packages ask at their installation.
tar -C "$here/root" -c . | tar -C / -x --no-same-owner
apt-get update -q
(cd "$here" && sed -e '/^#/d' "$@") | xargs apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold
apt-get install -qy --no-install-recommends "$deb"
systemctl enable -q systemd-networkd
# `landfall break-glass` runs it when it is wanted.
systemctl disable -q caddy.service
# What is each machine's own comes with its first boot.
rm -rf /usr/sbin/policy-rc.d /etc/ssh/ssh_host_* /etc/hostname /var/lib/systemd/random-seed /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
: >/etc/machine-id
mkdir -p /usr/share/landfall
dpkg-query -W -f '${Package} ${Version}\n' >/usr/share/landfall/packages
