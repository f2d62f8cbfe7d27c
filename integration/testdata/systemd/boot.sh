#!/bin/sh
# boot.sh DIRECTORY NETNS: systemd, in a container on a copy of this machine's files
# that is thrown away, where a Caddy without VNICs is installed with its unit.
# DIRECTORY has what the container is to find: a Caddyfile, and a checkout with a
# caddy in it. It is to run in a mount namespace of its own.
set -eu
dir=$1 netns=$2
mount -t tmpfs none "$dir/overlay"
mkdir "$dir/overlay/upper" "$dir/overlay/work" "$dir/overlay/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/overlay/upper,workdir=$dir/overlay/work" "$dir/overlay/root"
mknod -m 666 "$dir/overlay/tun" c 10 200 # its usual mode
cd "$dir/overlay/root"
grep -q ^caddy: etc/passwd || echo 'caddy:x:65533:65533::/var/lib/caddy:/usr/sbin/nologin' >>etc/passwd
grep -q ^caddy: etc/group || echo 'caddy:x:65533:' >>etc/group
rm -rf etc/systemd/system etc/systemd/network
mkdir -p etc/systemd/system etc/systemd/network etc/systemd/system.conf.d etc/caddy
printf '[Manager]\nDefaultEnvironment=CADDY_VNIC_AS_CADDY=1\nDefaultStartLimitIntervalSec=1h\nDefaultStartLimitBurst=2\n' >etc/systemd/system.conf.d/test.conf
cp "$dir/caddy.service" usr/lib/systemd/system
cp bin/false usr/bin/caddy
touch etc/caddy/Caddyfile
cd /
# A unit may write the settings of its devices, as on a machine.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --directory="$dir/overlay/root" --register=no --keep-unit --kill-signal=SIGRTMIN+3 \
	--network-namespace-path="$netns" --capability=CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON --system-call-filter='bpf perf_event_open' \
	--bind="$dir/overlay/tun:/dev/net/tun" --bind-ro="$dir/Caddyfile:/etc/caddy/Caddyfile" --bind-ro="$dir/checkout:/srv/checkout" \
	/lib/systemd/systemd --unit=basic.target
