# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must pass for a network to work, whatever a policy says. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.palisade.egress.plugins.plugin_utils._declared import Rule, rule

# A host sends these before an address is its own (RFC 4862, RFC 3810).
FROM_UNSPECIFIED = ["nd-neighbor-solicit", "nd-router-solicit", "mld-listener-report", "mld2-listener-report"]
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
