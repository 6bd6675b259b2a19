#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Boots a host whose network comes late: a link that is handed in when it runs already, and that systemd-networkd
# configures. A program on it sends, from its first moment on, what the policy does not grant; the other end listens.
# The host has what web1 has saved, and what loads it.
set -euo pipefail

name=palisade-late1
peer=palisade-late
CONTAINERS_CONF=$(cd "$(dirname "$0")/../lab" && pwd)/containers.conf
export CONTAINERS_CONF

clean() {
    podman rm --force --ignore --time 0 "$name" > /dev/null
    ip netns delete "$peer" 2> /dev/null || true
}

in_host() {
    podman exec --interactive "$name" "$@"
}

# Prints what arrives within some seconds.
listen() {
    ip netns exec "$peer" timeout "$1" tcpdump -l -n -q -c 1 -i late0 udp port 9999 2> /dev/null || true
}

monotonic() {
    in_host systemctl show --property="$2" --value "$1"
}

clean
trap clean EXIT
podman run --detach --name "$name" --hostname late1 --network none --env LAB_LISTEN=tcp/9 \
    --cap-add NET_ADMIN,NET_RAW,SYS_ADMIN --security-opt apparmor=unconfined \
    --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
    "$(podman inspect --format '{{.ImageName}}' palisade-web1)" /sbin/init > /dev/null

podman exec palisade-web1 sh -c 'tar -C / -c var/lib/palisade-egress usr/local/sbin/palisade-egress \
    $(cd / && find etc/systemd/system -name "*palisade-egress*" -o -name nftables.service.d)' | in_host tar -C / -x
in_host tee /etc/systemd/network/late.network > /dev/null << 'END'
[Match]
Name=eth0
[Network]
Address=198.51.100.129/26
END
in_host tee /usr/local/lib/beacon.py > /dev/null << 'END'
import socket, time
while True:
    for family, *peer in ((socket.AF_INET, "198.51.100.130", 9999), (socket.AF_INET6, "ff02::1%eth0", 9999)):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as beacon:
                beacon.sendto(b"beacon", socket.getaddrinfo(*peer, family)[0][4])
        except OSError:
            pass
    time.sleep(0.02)
END
in_host tee /etc/systemd/system/beacon.service > /dev/null << 'END'
[Unit]
DefaultDependencies=no
Before=palisade-egress.service
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/beacon.py
[Install]
WantedBy=sysinit.target
END
in_host systemctl --quiet enable systemd-networkd.service beacon.service 2> /dev/null
podman restart --time 5 "$name" > /dev/null

ip netns add "$peer"
ip link add eth0 netns "$(podman inspect --format '{{.State.Pid}}' "$name")" type veth peer name late0 netns "$peer"
ip -n "$peer" address add 198.51.100.130/26 dev late0
ip -n "$peer" link set late0 up
escaped=$(listen 8)

for _ in {1..100}; do
    in_host networkctl --no-legend list eth0 | grep -q configured && break
    sleep 0.1
done
in_host ip -brief address show eth0 | grep -q 198.51.100.129 || { echo 'late: the link was never configured'; exit 1; }
in_host systemctl is-active --quiet beacon.service || { echo 'late: nothing sends'; exit 1; }
loaded=$(monotonic palisade-egress.service ActiveEnterTimestampMonotonic)
network=$(monotonic systemd-networkd.service ExecMainStartTimestampMonotonic)
echo "late: the rules were there $((network - loaded)) microseconds before systemd-networkd began"
((loaded < network)) || exit 1
[[ -z $escaped ]] || { echo "late: this got out: $escaped"; exit 1; }

# Without rules it is seen, or that nothing got out would mean nothing.
in_host nft flush ruleset
[[ -n $(listen 5) ]] || { echo 'late: the listener hears nothing even without rules'; exit 1; }
echo 'late: nothing got out'
