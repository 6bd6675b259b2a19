# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The profiles that ship. Private to this collection.

Each says why it may reach what it may. They name networks that ship undefined, so that nothing is open that the
inventory does not say. Only those whose work is with strangers name the ``internet``: who delivers mail, resolves
names, keeps time, or fetches for others. The other network that ships defined is the one of machines in clouds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BASE = "base"
ROUTER = "router"
CONTAINER_HOST = "container_host"

# Where spam, and what a host that was broken into sends home, leaves by.
_NO_MAIL_NO_FTP = ["smtp", "ftp"]
# What worms spread by and nobody needs beyond the site: remote procedures, file shares, remote desktops, SQL Server
# (Slammer came by 1434). And how whoever holds a host commands it: telnet, IRC, and TFTP for what comes next.
_NO_WORMS = [
    {
        "name": "worms",
        "service": {"protocol": ["tcp", "udp"], "ports": [111, 135, "137-139", 445, "1433-1434", 3389]},
        "to": "internet",
    },
    {"name": "remote-control", "service": {"protocol": "tcp", "ports": [23, 194, "6665-6669", 6697]}},
    "tftp",
]
# The web, but for what base grants: updates.
_NO_WEB = [
    {
        "name": "web",
        "service": {"protocol": ["tcp", "udp"], "ports": [80, 443]},
        "to": "internet",
        "except": "mirrors",
    }
]

PROFILES: Mapping[str, Mapping[str, Any]] = {
    # Every managed host. Names and time, or it breaks in ways that take days to find; updates from mirrors, or it
    # stays vulnerable; logs to where an intruder cannot remove them; users from a directory, over TLS or Kerberos.
    # All of them are defaults, which any forbid withdraws.
    BASE: {
        "grants": [
            {"service": "dns", "to": "resolvers"},
            {"service": "ntp", "to": "time_servers"},
            {"service": "http", "to": "mirrors"},
            {"service": "https", "to": "mirrors"},
            {"service": "syslog", "to": "log_sinks"},
            {"service": "syslog-tls", "to": "log_sinks"},
            {"service": "ldap", "to": "directories"},
            {"service": "ldaps", "to": "directories"},
            {"service": "kerberos", "to": "directories"},
        ],
        # A host that silently loses names is the classic outage.
        "probes": [{"service": "dns", "to": "resolvers"}],
    },
    # Hands all mail to named relays, whose addresses its configuration holds: it needs no names, hence no DNS at all,
    # which is also the channel that data leaves by unseen. It never fetches files.
    "mail": {
        "grants": [
            {"service": "smtp", "to": "relays"},
            {"service": "submission", "to": "relays"},
            {"service": "smtps", "to": "relays"},
        ],
        "forbids": ["ftp", "dns"],
    },
    # Delivers to any mail server there is, and must look up who that is: at the named resolvers and nowhere else.
    "mail_exchanger": {
        "grants": [{"service": "smtp", "to": "internet"}],
        "forbids": ["ftp", {"service": "dns", "except": "resolvers"}],
    },
    # Answers browsers and asks its databases. What is broken into most must not be able to send mail.
    "web": {
        "grants": [
            {"service": "postgresql", "to": "databases"},
            {"service": "mysql", "to": "databases"},
        ],
        "forbids": ["smtp"],
    },
    # Answers and never asks: it needs what base grants. Neither mail nor FTP, the two classic ways out for a dump.
    "database": {"forbids": ["smtp", "ftp"]},
    # Answers the site's questions for names and has to find the answers, anywhere, plain or over TLS. One that only
    # forwards needs less: its grants are to be replaced by one to the servers that it forwards to. It is no client of
    # anything else, and names are the one thing that it must not be tricked into fetching over the web.
    "dns": {
        "grants": [
            {"service": "dns", "to": "internet"},
            {"service": "dns-over-tls", "to": "internet"},
        ],
        "forbids": [*_NO_MAIL_NO_FTP, *_NO_WEB],
    },
    # Gives the site its time and takes it from servers and pools whose addresses change, with or without TLS.
    "ntp": {
        "grants": [
            {"service": "ntp", "to": "internet"},
            {"service": "nts-ke", "to": "internet"},
        ],
        "forbids": [*_NO_MAIL_NO_FTP, *_NO_WEB],
    },
    # Fetches from the web for those who may not themselves. It decides by name, hence anywhere, but the web only:
    # a proxy that tunnels mail or logins is the hole in everybody's fence. It asks the named resolvers, as one that
    # asks whom it likes can be told to.
    "proxy": {
        "grants": [
            {"service": "http", "to": "internet"},
            {"service": "https", "to": "internet"},
            {"service": "http3", "to": "internet"},
        ],
        "forbids": [*_NO_MAIL_NO_FTP, *_NO_WORMS, "ssh", {"service": "dns", "except": "resolvers"}],
    },
    # The one way in for those who administer: it logs in to what it is there for, and its users must not carry away
    # by the web, by mail, or by a login elsewhere what they can reach from it.
    "bastion": {
        "grants": [{"service": "ssh", "to": "administered"}],
        "forbids": [
            *_NO_MAIL_NO_FTP,
            *_NO_WORMS,
            *_NO_WEB,
            {"service": "ssh", "to": "internet", "except": "administered"},
        ],
    },
    # Asks all that it watches, in the usual ways (echo requests may leave any host), and hands its alarms to a relay
    # as a client does. It can reach more hosts than any other: it must reach nothing else.
    "monitoring": {
        "grants": [
            {"service": "snmp", "to": "monitored"},
            {"service": "node-exporter", "to": "monitored"},
            {"service": "nrpe", "to": "monitored"},
            {"service": "zabbix-agent", "to": "monitored"},
            {"service": "http", "to": "monitored"},
            {"service": "https", "to": "monitored"},
            {"service": "submission", "to": "relays"},
            {"service": "smtps", "to": "relays"},
        ],
        "forbids": [*_NO_MAIL_NO_FTP, *_NO_WORMS, "ssh"],
    },
    # People work here, and what they open runs here. The web is behind a proxy, mail goes to a relay that knows them,
    # by submission: port 25 is for spam. No names but from the resolvers, which is how spyware finds home. Direct ways
    # to the web are for the inventory to grant.
    "workstation": {
        "grants": [
            {"service": "squid", "to": "proxies"},
            {"service": "http-alt", "to": "proxies"},
            {"service": "submission", "to": "relays"},
            {"service": "smtps", "to": "relays"},
            {"service": "imaps", "to": "relays"},
        ],
        "forbids": [*_NO_MAIL_NO_FTP, *_NO_WORMS, {"service": "dns", "except": "resolvers"}],
    },
    # A machine in a cloud. What it is told about itself has keys in it, which whoever breaks into a service must not
    # get: for root only, as whom the clouds' agents run.
    "cloud": {"grants": [{"service": "cloud-metadata", "to": "cloud_metadata", "user": "root"}]},
    # Forwards the packets of others, and is itself a host that needs what base grants and nothing else.
    ROUTER: {"forbids": ["smtp", "ftp"]},
    # Runs containers, which may be anything: what they may reach, and must not, is for the inventory to say.
    CONTAINER_HOST: {},
}
