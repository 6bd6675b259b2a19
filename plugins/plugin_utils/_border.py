# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lowers what routers let pass for others to rules and chains of the data contract. Private to this collection.

Source addresses are checked in ``prerouting``, before anything that is stateful: a spoofed packet of a live flow would
pass otherwise. So the chain ``forward`` can tell by its source alone whose a packet is. What hosts behind the router
send goes to a chain that holds their own policy; hosts of equal policy share one. Packets are seen before source
addresses are translated and after destinations are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ansible_collections.palisade.egress.plugins.module_utils._values import format_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._always import (
    FROM_UNSPECIFIED,
    RESET,
    inbound_icmp,
    refuse_no_syn,
    stateful,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._declared import (
    ORIGINAL,
    Lane,
    Rule,
    accept_rules,
    chain_name,
    ending_rules,
    forbid_chains,
    inbound_ending_rules,
    outbound_rules,
    rule,
    waiver_rules,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._denials import deny, log_default, refuse
from ansible_collections.palisade.egress.plugins.plugin_utils._expiry import inbound_lapses, lapses
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import join
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Accepted, Behind, Border, Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._profiles import BASE

_BASE = "forward"
# Where packets are logged and dropped that cannot be honest. All packets meet what leads there: it is looked up once.
_SPOOFED, _SPECIAL_USE = "spoofed_border", "special_use"


def border_rules(border: Border, settings: Settings) -> Iterator[Rule]:
    """Yield the rules by which a router treats what it forwards, and checks where it comes from."""
    yield from _prerouting(border, settings)
    yield from _forward(border, settings)


def reset_for_others() -> Iterator[Rule]:
    """Yield the rule that lets leave with what a router refuses TCP: it seems to come from who was called."""
    yield rule("output", "always/reset-for-others", "accept", source_type="not:local", **RESET)


def _prerouting(border: Border, settings: Settings) -> Iterator[Rule]:
    """Drop what comes from where its source cannot be (RFC 2827, RFC 3704); what most packets are comes first."""
    chain, inside = "prerouting", border.router.inside
    checked: list[str] = []
    for side in inside:
        name = f"inside/{side.interface}"
        comes = {"in_interface": [side.interface], "source": format_addresses(side.prefixes)}
        if side.reverse_path == "off":
            yield rule(chain, name, "accept", **comes)
            continue
        checked.append(chain_name(f"by_{side.interface}", checked, key=side.interface))
        yield rule(chain, name, "jump", target=checked[-1], **comes)
        yield _spoofed(checked[-1], f"reverse-path/{side.interface}", reverse_path=side.reverse_path)
        yield rule(checked[-1], name, "accept")
    yield rule(chain, "always/loopback", "accept", in_interface=["lo"])
    yield from _before_an_address(chain)
    yield _spoofed(chain, "spoofed/inside", in_interface=[side.interface for side in inside])
    yield _spoofed(chain, "spoofed/inside-from-elsewhere", source=_prefixes(border))
    for beyond, special_use in zip(border.router.outside, border.special_use, strict=True):
        comes = {"in_interface": [beyond.interface]}
        if beyond.reverse_path != "off":
            yield _spoofed(chain, f"reverse-path/{beyond.interface}", **comes, reverse_path=beyond.reverse_path)
        yield _spoofed(chain, f"spoofed/special-use/{beyond.interface}", **comes, source=format_addresses(special_use))
    yield from refuse(settings, _BASE, "always/spoofed-source", "spoofed", into=_SPOOFED)


def _spoofed(chain: str, name: str, **matches: object) -> Rule:
    return rule(chain, name, "jump", target=_SPOOFED, **matches)


def _before_an_address(chain: str) -> Iterator[Rule]:
    """Let pass what hosts and routers say to each other on a wire, before they have an address or with a local one."""
    yield rule(chain, "always/link-local", "accept", source=["fe80::/10"])
    yield rule(
        chain, "always/unspecified-source", "accept", source=["::/128"], protocol="icmpv6", icmp_type=FROM_UNSPECIFIED
    )
    dhcp = {"protocol": "udp", "source_ports": ["68"], "destination_ports": ["67"]}
    yield rule(chain, "always/unspecified-source-dhcp", "accept", source=["0.0.0.0/32"], **dhcp)
    yield rule(chain, "always/unspecified-source-igmp", "accept", source=["0.0.0.0/32"], protocol="igmp")


def _forward(border: Border, settings: Settings) -> Iterator[Rule]:
    branches = _branches(border.behind, settings)
    if settings.live_flows == "end":
        yield from _ending(branches)
        if border.router.inbound == "closed":
            yield from _inbound_ending(branches)
    yield from stateful(settings, _BASE)
    for side, special_use in zip(border.router.outside, border.special_use, strict=True):
        beyond: Rule = {"out_interface": [side.interface], "destination": format_addresses(special_use)}
        yield rule(_BASE, f"special-use/{side.interface}", "jump", target=_SPECIAL_USE, **beyond)
    if border.router.outside:
        yield from refuse(settings, _BASE, "always/special-use", "special-use", into=_SPECIAL_USE)
    if branches:
        yield _dispatch("always/outbound", "source", {b.lane.chain: b for b in branches})
    yield from deny(settings, _BASE, "always/unknown-source", "unknown", base=_BASE, source=_prefixes(border))
    if border.router.outside:
        yield from _inbound(border, branches, settings)
    yield from log_default(settings, _BASE)
    for branch in branches:
        yield from _outbound(branch)


@dataclass(frozen=True)
class _Branch:
    """Hosts that are treated alike, the chain of what they send, and the chains of their forbids."""

    behind: Behind
    lane: Lane
    forbids: Mapping[str, str]

    @property
    def word(self) -> str:
        """What all of their chains are called after."""
        return self.lane.chain.removeprefix("from_")

    @property
    def accepts(self) -> list[Accepted]:
        """What they accept."""
        return [accepted for accepted in self.behind.composition.accepts if accepted.is_used]

    def aside(self, chain: str, expired: str) -> Lane:
        """Return another lane of the same hosts. All words have four letters, so that no name gets too long."""
        return replace(self.lane, chain=f"{chain}_{self.word}", expired=f"{expired}_{self.word}")


def _branches(behind: Iterable[Behind], settings: Settings) -> list[_Branch]:
    """Return the branches by which a router tells hosts apart, called after the host or the profiles."""
    found: list[_Branch] = []
    for group in behind:
        profiles = [name for name in group.composition.profiles if name != BASE] or [BASE]
        called = group.hosts[0] if len(group.hosts) == 1 else "_".join(profiles)
        key = " ".join(group.hosts)
        chain = chain_name(f"from_{called}", {branch.lane.chain for branch in found}, key=key)
        mine = replace(settings, mode="audit") if group.is_audit else settings
        taken = {name for branch in found for name in branch.forbids.values()}
        forbids = forbid_chains(group.composition.forbids, taken, key)
        found.append(_Branch(group, Lane(chain, _BASE, f"over_{chain.removeprefix('from_')}", mine), forbids))
    return found


def _outbound(branch: _Branch) -> Iterator[Rule]:
    """Yield a host's own policy; nothing that it sends leaves this chain without a verdict."""
    lane = branch.lane
    yield from outbound_rules(lane, branch.behind.composition, branch.forbids)
    yield from deny(lane.settings, lane.chain, "always/default", branch.word, base=_BASE)
    yield from waiver_rules(lane, branch.behind.composition, branch.forbids)


def _ending(branches: Iterable[_Branch]) -> Iterator[Rule]:
    """Let flows end with what let them begin."""
    found = {f"ends_{b.word}": b for b in branches if lapses(b.behind.composition)}
    if found:
        yield _dispatch("always/ending", "source", found, **ORIGINAL)
    for branch in found.values():
        yield from ending_rules(branch.aside("ends", "over"), branch.behind.composition, branch.forbids)


def _inbound(border: Border, branches: Iterable[_Branch], settings: Settings) -> Iterator[Rule]:
    """Yield what may begin outside."""
    inside, outside = ([side.interface for side in sides] for sides in (border.router.inside, border.router.outside))
    yield from refuse_no_syn(settings, _BASE, in_interface=outside)
    if border.router.inbound == "guard":
        # By its destination, too, so that a flow can be told from one that began inside.
        ways = {"in_interface": outside, "out_interface": inside, "destination": _prefixes(border)}
        yield rule(_BASE, "always/inbound", "accept", **ways)
        return
    yield from inbound_icmp(settings, _BASE, in_interface=outside, out_interface=inside)
    found = {f"into_{branch.word}": branch for branch in branches if branch.accepts}
    if found:
        yield _dispatch("always/inbound", "destination", found, in_interface=outside)
    for branch in found.values():
        yield from accept_rules(branch.aside("into", "ovri"), branch.accepts)


def _inbound_ending(branches: Iterable[_Branch]) -> Iterator[Rule]:
    """Let flows from outside end with what let them in."""
    found = {f"endi_{branch.word}": branch for branch in branches if inbound_lapses(branch.accepts)}
    if found:
        yield _dispatch("always/inbound-ending", "destination", found, **ORIGINAL)
    for branch in found.values():
        yield from inbound_ending_rules(branch.aside("endi", "ovri"), branch.accepts)


def _dispatch(name: str, end: str, branches: Mapping[str, _Branch], **matches: object) -> Rule:
    """Return the rule that leads packets to the chains of those whose address is at one end."""
    table = {cidr: chain for chain, branch in branches.items() for cidr in format_addresses(branch.behind.addresses)}
    return rule(_BASE, name, "dispatch", dispatch={end: table}, **matches)


def _prefixes(border: Border) -> list[str]:
    return format_addresses(join(side.prefixes for side in border.router.inside))
