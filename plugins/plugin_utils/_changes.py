# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a changed inventory means for every host, fit for review. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES, Addresses, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._assertions import vocabulary
from ansible_collections.palisade.egress.plugins.plugin_utils._compare import KINDS, Change, compare
from ansible_collections.palisade.egress.plugins.plugin_utils._compile import Views
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import join
from ansible_collections.palisade.egress.plugins.plugin_utils._packets import (
    encode_packet,
    encode_verdicts,
    read_ruleset,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Fleet, Host, Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place
from ansible_collections.palisade.egress.plugins.plugin_utils._ruled import Lowered, Ruled
from ansible_collections.palisade.egress.plugins.plugin_utils._terms import read_terms
from ansible_collections.palisade.egress.plugins.plugin_utils._words import Known, tell

_SIGNS = {"allowed": "+", "denied": "-", "limited": "~", "unlimited": "~"}
_WORDS = {
    "allowed": "newly allowed",
    "denied": "newly denied",
    "limited": "bound by a limit from now on",
    "unlimited": "no longer bound by a limit",
}
_STATES = {
    "changed": "",
    "new": "new: fenced in from now on, and may reach",
    "new in audit": "new: in audit from now on, where nothing is stopped; its policy lets it reach",
    "gone": "no longer managed: its rules stay until somebody removes them",
    "removed": "its rules are removed: everything passes",
    "audited": "in audit from now on: what its policy denies is logged and passes",
    "enforced": "no longer in audit: what its policy denies is stopped from now on",
}


def changes(before: Ruled, after: Ruled) -> dict[str, Any]:
    """Return what hosts may do newly and no longer, those together that change alike, as data and as text."""
    known, now = _known(after.fleet), parse_time(after.fleet.now)
    cache: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    groups: dict[str, dict[str, Any]] = {}
    unchanged = 0
    for host in dict.fromkeys((*before.lowered, *after.lowered)):
        state = _state(before.lowered.get(host), after.lowered.get(host))
        old, new = (_view(ruled.lowered.get(host), state) for ruled in (before, after))
        key = (state, id(old), id(new))
        if key not in cache:
            cache[key] = _flows(old, new, now, known)
        if cache[key] or state != "changed":
            group: dict[str, Any] = {"state": state, "hosts": [], "flows": cache[key]}
            groups.setdefault(f"{state} {cache[key]}", group)["hosts"].append(host)
        else:
            unchanged += 1
    found = list(groups.values())
    return {"changes": found, "unchanged": unchanged, "text": "\n".join(_text(found, unchanged))}


def _state(old: Lowered | None, new: Lowered | None) -> str:
    """Return what happens to a host."""
    if new is None:
        return "gone"
    if old is None:
        return "new in audit" if new.is_audit else "new"
    if old.ruleset.chains and not new.ruleset.chains:
        return "removed"
    if new.is_audit == old.is_audit:
        return "changed"
    return "audited" if new.is_audit else "enforced"


def _view(lowered: Lowered | None, state: str) -> Ruleset | None:
    """Return the ruleset to compare: what the policy says or, where audit begins or ends, what really passes."""
    if lowered is None:
        return None
    return lowered.ruleset if state in ("audited", "enforced") else lowered.enforced


def _flows(old: Ruleset | None, new: Ruleset | None, now: int, known: Known) -> list[dict[str, Any]]:
    """Return what changes; on a host that is new nothing passed but what every host needs."""
    if new is None:
        return []
    return [_flow(c, now) for c in compare(_bare(new) if old is None else old, new, now=now, known=known)]


def _bare(ruleset: Ruleset) -> Ruleset:
    """Return a ruleset with nothing but what every host needs."""
    always = (replace(c, rules=tuple(r for r in c.rules if r.name.startswith("always/"))) for c in ruleset.chains)
    return Ruleset(tuple(always))


def _known(fleet: Fleet) -> Known:
    """Return the names of networks, groups and hosts by their addresses of a family."""
    networks = Views(fleet).of(Host("", None, Settings()))
    found: dict[tuple[str, Ranges], str] = {}
    named: list[tuple[str, Addresses]] = []
    for name in fleet.networks:
        terms = read_terms(name, Place(name), vocabulary(fleet))
        named.append((name, networks.resolve(terms, Place(name), lenient=True)))
    for group, members in fleet.groups.items():
        if len(members) > 1:
            joined = (fleet.hosts[name].addresses for name in members)
            named.append((f"group:{group}", join(addresses for addresses in joined if addresses is not None)))
    for name, host in fleet.hosts.items():
        if host.addresses is not None:
            named.append((name, host.addresses))
    for name, addresses in named:
        for family in FAMILIES:
            if addresses.of(family):
                found[family, addresses.of(family)] = name
    return found


def compare_plain(before: Any, after: Any, every_packet: bool) -> dict[str, Any]:
    """Return what two rulesets, given as policies or as rules and chains, do differently, as data and as text."""
    old, new = (read_ruleset(value, Place(name)) for value, name in ((before, "before"), (after, "after")))
    flows = [_flow(change, 0) for change in compare(old, new, every_packet)]
    by_kind = {kind: [flow for flow in flows if flow["change"] == kind] for kind in KINDS}
    text = [line for flow in flows for line in _flow_lines(flow)]
    return {**by_kind, "text": "\n".join(line.removeprefix("  ") for line in text) or "Nothing changes"}


def _flow(change: Change, now: int) -> dict[str, Any]:
    packet = change.witness
    return {
        "change": change.kind,
        "chain": change.chain,
        "packets": list(change.packets),
        "example": tell(change.witness, "the host" if change.chain == "output" else ""),
        "witness": encode_packet(replace(packet, time=0) if packet.time == now else packet),
        "before": encode_verdicts(change.before),
        "after": encode_verdicts(change.after),
    }


def _text(groups: list[dict[str, Any]], unchanged: int) -> Iterator[str]:
    for group in groups:
        note = f" ({_STATES[group['state']]})" if _STATES[group["state"]] else ""
        yield f"{', '.join(group['hosts'])}{note}"
        for flow in group["flows"]:
            yield from _flow_lines(flow)
    yield f"{unchanged} host{'' if unchanged == 1 else 's'} unchanged" if groups else "Nothing changes on any host"


def _flow_lines(flow: dict[str, Any]) -> Iterator[str]:
    where = "" if flow["chain"] == "output" else f" in {flow['chain']}"
    by = flow["after" if flow["change"] in ("allowed", "unlimited") else "before"]["rule"]
    for line in flow["packets"]:
        rule = f" ('{by}')" if by else ""
        yield f"  {_SIGNS[flow['change']]} {_WORDS[flow['change']]}{where}: {line}{rule}"
    yield f"      for example {flow['example']}"
