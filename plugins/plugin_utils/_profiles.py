# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The profiles that ship. Private to this collection.

Each says why it may reach what it may. They name networks that ship undefined, so that nothing is open that the
inventory does not say; ``mail_exchanger`` alone must reach whoever has a mail server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BASE = "base"

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
    # Forwards the packets of others, and is itself a host that needs what base grants and nothing else.
    "router": {"forbids": ["smtp", "ftp"]},
}
