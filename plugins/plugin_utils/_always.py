# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What passes or never does, whatever a policy says. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.palisade.egress.plugins.plugin_utils._declared import Rule, rule
from ansible_collections.palisade.egress.plugins.plugin_utils._denials import refuse
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._services import ICMP

# A host sends these before an address is its own (RFC 4862, RFC 3810).
FROM_UNSPECIFIED = ["nd-neighbor-solicit", "nd-router-solicit", "mld-listener-report", "mld2-listener-report"]
# A reset that answers a packet counts as related to it.
RESET: Mapping[str, Any] = {
    "protocol": "tcp",
    "tcp_flags": {"mask": ["rst"], "set": ["rst"]},
    "ctstate": ["related"],
}
# No flow begins with it: one that was ended would come back by the next packet of the other end.
_NO_SYN: Mapping[str, Any] = {"protocol": "tcp", "ctstate": ["new"], "tcp_flags": {"mask": ["syn"]}}
# What tells about a flow that it fails. Conntrack counts a redirect as related, too.
_ERRORS = {
    "icmp": ["destination-unreachable", "time-exceeded", "parameter-problem"],
    "icmpv6": ["destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem"],
}


def related_errors(chain: str) -> Iterator[Rule]:
    """Let in what tells about a flow that it fails, which path MTU discovery lives on."""
    for protocol, errors in _ERRORS.items():
        name = f"always/related-{protocol}"
        yield rule(chain, name, "accept", protocol=protocol, icmp_type=errors, ctstate=["related"])


def stateful(settings: Settings, base: str) -> Iterator[Rule]:
    """Yield what is true of packets of known flows, and of those that cannot belong to one."""
    yield rule(base, "always/established", "accept", ctstate=["established"])
    yield from related_errors(base)
    yield from refuse(settings, base, "always/invalid", "invalid", ctstate=["invalid"])


def refuse_no_syn(settings: Settings, base: str, **matches: Any) -> Iterator[Rule]:
    """Refuse TCP that is not of a known flow and does not begin one."""
    yield from refuse(settings, base, "always/no-syn", "no-syn", **matches, **_NO_SYN)


def inbound_icmp(settings: Settings, base: str, **matches: Any) -> Iterator[Rule]:
    """Let in the ICMP types that may begin something inbound."""
    for protocol, types in ICMP.items():
        if wanted := [name for name in settings.icmp.inbound if name in types]:
            yield rule(base, f"always/{protocol}", "accept", **matches, protocol=protocol, icmp_type=wanted)
