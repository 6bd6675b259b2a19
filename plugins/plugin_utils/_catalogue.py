# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services that ship, by the names and ports that IANA registered. Private to this collection.

It is written as users write theirs and read by the same reader. It is Python and not YAML, so that the collection
needs no file to be found at run time and a comment can stand beside what it explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Definition = Mapping[str, Any]


def _tcp(*ports: int | str) -> tuple[Definition, ...]:
    return ({"protocol": "tcp", "ports": list(ports)},)


def _udp(*ports: int | str) -> tuple[Definition, ...]:
    return ({"protocol": "udp", "ports": list(ports)},)


def _both(*ports: int | str) -> tuple[Definition, ...]:
    return _udp(*ports) + _tcp(*ports)


# A DHCP client speaks before it has an address, to everybody: bind it to the one interface that needs it.
NEEDS_INTERFACE = ("dhcp",)

SERVICES: Mapping[str, tuple[Definition, ...]] = {
    # Every protocol there is: for forbids of a whole network, and for grants that one will regret.
    "any": ({"protocol": "any"},),
    # What every network needs.
    "dns": _both(53),
    "dns-over-tls": _tcp(853),
    "dns-over-quic": _udp(853),
    "mdns": _udp(5353),
    "llmnr": _both(5355),
    "ntp": _udp(123),
    "nts-ke": _tcp(4460),
    "ptp": _udp(319, 320),
    "dhcp": (
        {"protocol": "udp", "family": "ipv4", "ports": [67], "source_ports": [68]},
        {"protocol": "udp", "family": "ipv6", "ports": [547], "source_ports": [546]},
    ),
    "ping": (
        {"protocol": "icmp", "icmp_types": ["echo-request"]},
        {"protocol": "icmpv6", "icmp_types": ["echo-request"]},
    ),
    "whois": _tcp(43),
    "ssdp": _udp(1900),
    # Mail.
    "smtp": _tcp(25),
    "submission": _tcp(587),
    "smtps": _tcp(465),
    "lmtp": _tcp(24),
    "imap": _tcp(143),
    "imaps": _tcp(993),
    "pop3": _tcp(110),
    "pop3s": _tcp(995),
    "sieve": _tcp(4190),
    # The web and files.
    "http": _tcp(80),
    "https": _tcp(443),
    "http3": _udp(443),
    "http-alt": _tcp(8080),
    "socks": _tcp(1080),
    "squid": _tcp(3128),
    "ftp": _tcp(21),
    "ftps": _tcp(990),
    "tftp": _udp(69),
    "rsync": _tcp(873),
    "git": _tcp(9418),
    "svn": _tcp(3690),
    "nfs": _both(2049),
    "rpcbind": _both(111),
    "smb": _tcp(445),
    "netbios": ({"protocol": "udp", "ports": [137, 138]}, {"protocol": "tcp", "ports": [139]}),
    "afp": _tcp(548),
    "iscsi": _tcp(3260),
    "ceph": _tcp(3300, "6789", "6800-7568"),
    "glusterfs": _tcp("24007-24008", "49152-49251"),
    # Administration.
    "ssh": _tcp(22),
    "telnet": _tcp(23),
    "rdp": _both(3389),
    "vnc": _tcp("5900-5903"),
    "winrm": _tcp("5985-5986"),
    "ipmi": _udp(623),
    "snmp": _udp(161),
    "snmptrap": _udp(162),
    "x11": _tcp("6000-6063"),
    "ipp": _tcp(631),
    "jetdirect": _tcp(9100),
    # Directories and logins.
    "ldap": _tcp(389),
    "ldaps": _tcp(636),
    "global-catalog": _tcp("3268-3269"),
    "kerberos": _both(88),
    "kpasswd": _both(464),
    "radius": _udp("1812-1813"),
    "radsec": _both(2083),
    "tacacs": _tcp(49),
    # Logs and measurements.
    "syslog": _both(514),
    "syslog-tls": _tcp(6514),
    "gelf": _both(12201),
    "beats": _tcp(5044),
    "fluentd": _both(24224),
    "graphite": _both(2003),
    "statsd": _udp(8125),
    "influxdb": _tcp(8086),
    "prometheus": _tcp(9090),
    "node-exporter": _tcp(9100),
    "loki": _tcp(3100),
    "otlp": _tcp("4317-4318"),
    "zabbix-agent": _tcp(10050),
    "zabbix-trapper": _tcp(10051),
    "nrpe": _tcp(5666),
    # Databases.
    "postgresql": _tcp(5432),
    "mysql": _tcp(3306),
    "mssql": _tcp(1433),
    # The port that the worm Slammer came by.
    "mssql-browser": _udp(1434),
    "oracle": _tcp(1521),
    "redis": _tcp(6379),
    "memcached": _both(11211),
    "mongodb": _tcp(27017),
    "cassandra": _tcp(9042),
    "couchdb": _tcp(5984),
    "elasticsearch": _tcp(9200),
    "elasticsearch-cluster": _tcp(9300),
    "clickhouse": _tcp(8123, 9000),
    # Messages and clusters.
    "amqp": _tcp(5672),
    "amqps": _tcp(5671),
    "kafka": _tcp(9092),
    "mqtt": _tcp(1883),
    "mqtts": _tcp(8883),
    "nats": _tcp(4222),
    "xmpp-client": _tcp(5222),
    "xmpp-server": _tcp(5269),
    "irc": _tcp(194, "6665-6669"),
    "ircs": _tcp(6697),
    "sip": _both(5060),
    "sips": _tcp(5061),
    "stun": _both(3478),
    "etcd": _tcp("2379-2380"),
    "consul": _tcp(8500),
    "vault": _tcp(8200),
    "zookeeper": _tcp(2181),
    "kubernetes-api": _tcp(6443),
    "docker": _tcp(2376),
    # Where a cloud tells a machine about itself; the second port is the one of Azure's platform.
    "cloud-metadata": _tcp(80, 32526),
    "salt": _tcp("4505-4506"),
    "puppet": _tcp(8140),
    # Tunnels and routing.
    "wireguard": _udp(51820),
    "openvpn": _both(1194),
    "ipsec": ({"protocol": "udp", "ports": [500, 4500]}, {"protocol": "esp"}),
    "gre": ({"protocol": "gre"},),
    "l2tp": _udp(1701),
    "pptp": ({"protocol": "tcp", "ports": [1723]}, {"protocol": "gre"}),
    "vxlan": _udp(4789),
    "bgp": _tcp(179),
    "bfd": _udp("3784-3785", 4784),
    "ospf": ({"protocol": "ospf"},),
    "vrrp": ({"protocol": "vrrp"},),
}
