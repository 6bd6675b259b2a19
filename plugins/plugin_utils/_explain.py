# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells why a host may or may not reach something, and what would have to be written. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES, Rule
from ansible_collections.palisade.egress.plugins.module_utils._ranges import contains
from ansible_collections.palisade.egress.plugins.module_utils._values import format_time, parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._analyse import Outcome
from ansible_collections.palisade.egress.plugins.plugin_utils._assertions import Assertion, vocabulary
from ansible_collections.palisade.egress.plugins.plugin_utils._crossings import Crossings, past_routers
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX, Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Composition, Host, Service
from ansible_collections.palisade.egress.plugins.plugin_utils._prove import Prover, verdict
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place, nearest, shown
from ansible_collections.palisade.egress.plugins.plugin_utils._regions import AXIS, Region
from ansible_collections.palisade.egress.plugins.plugin_utils._ruled import Ruled, rule
from ansible_collections.palisade.egress.plugins.plugin_utils._services import find_service
from ansible_collections.palisade.egress.plugins.plugin_utils._sources import Source, source_of, sources
from ansible_collections.palisade.egress.plugins.plugin_utils._terms import read_terms
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import as_suffix
from ansible_collections.palisade.egress.plugins.plugin_utils._words import describe

# For how long a waiver is proposed.
_WAIVER = 30 * 86400
# So many kinds of packets stand in a line.
_TOLD = 4

# What decides, and its packets by family.
_Answer = tuple[Outcome, list[tuple[str, Region]]]


@dataclass(frozen=True)
class _Question:
    """Whether a host reaches a service somewhere."""

    host: Host
    to: str
    service: Service
    assertion: Assertion


def explain(inventory: Inventory, source: Any, to: Any, service: Any) -> dict[str, Any]:
    """Return whether a host may reach a service somewhere, why, and what to write if it may not."""
    ruled = rule(inventory, prove=False)
    question = _ask(ruled, source, to, service)
    prover = Prover(ruled.fleet, ruled.rulesets, [question.assertion], Crossings(ruled.fleet, ruled.policies))
    answers = _outcomes(prover, question, frozenset())
    routers = _at_routers(prover, question, answers)
    now = parse_time(ruled.fleet.now)
    accepted = set(_accepted(prover, question, answers, now))
    whole = {frozenset((True,)): "allowed", frozenset((False,)): "denied"}.get(frozenset(accepted), "partly allowed")
    if not prover.is_about(question.assertion, question.host):
        Place("to").fail(
            "no packet that leaves the host goes there", "Name addresses of others, of the service's family"
        )
    remedies = _remedies(ruled, prover, question, routers) if False in accepted else []
    reasons = [_reason(ruled, prover, question, outcome, regions) for outcome, regions in answers]
    reasons += [_router_reason(ruled, question, *found) for found in routers]
    title = f"{question.host.name} → {question.to}, {question.service.name}: {whole}"
    text = [title, *(f"  {reason['text']}" for reason in reasons)]
    if not routers and _is_behind(prover, question.host):
        text += ["  No router sees it, as both ends are on the same segment."]
    lowered = ruled.lowered.get(question.host.name)
    if lowered and lowered.is_audit and False in accepted:
        text += ["  The host is in audit: what is denied is logged, and passes all the same."]
    if remedies:
        text += ["To allow it, write into the inventory, for instance in the variables of this host:"]
        text += [f"  {line}" for line in remedies]
    return {
        "verdict": whole,
        "reasons": reasons,
        "remedies": remedies,
        "text": "\n".join(text),
    }


def _accepted(prover: Prover, question: _Question, answers: Iterable[_Answer], now: int) -> Iterator[bool]:
    """Yield whether packets pass that are sent now: the host, and then the routers that they cross."""
    for outcome, regions in answers:
        if not _is_at(now, regions):
            continue
        if not outcome.accepts:
            yield False
            continue
        for family, region in regions:
            crossed = prover.at_routers(region, family, question.host.addresses_of(family))
            found = [(crossing, at) for crossing, at in crossed if _is_at(now, [(family, at.region)])]
            if past_routers(found, region):
                yield True
            if not all(at.accepts for _crossing, at in found):
                yield False


def _at_routers(prover: Prover, question: _Question, answers: Iterable[_Answer]) -> list[tuple[str, Outcome]]:
    """Return what would become of all these packets at the routers on the way, whatever the host does with them."""
    found: dict[tuple[str, str, str, str], tuple[str, Outcome]] = {}
    for family in FAMILIES:
        region = [box for _outcome, regions in answers for its, boxes in regions if its == family for box in boxes]
        for crossing, outcome in prover.at_routers(region, family, question.host.addresses_of(family)):
            key = (crossing.router, outcome.chain, outcome.rule.name if outcome.rule else "", outcome.action)
            found.setdefault(key, (crossing.router, outcome))
    return list(found.values())


def _is_behind(prover: Prover, host: Host) -> bool:
    return any(prover.crossings.is_behind(family, host.addresses_of(family)) for family in FAMILIES)


def _is_at(now: int, regions: list[tuple[str, Region]]) -> bool:
    """Tell whether some of these packets are sent now, and not only once something has expired."""
    return any(contains(box[AXIS["time"]], now) for _family, region in regions for box in region)


def _ask(ruled: Ruled, source: Any, to: Any, service: Any) -> _Question:
    fleet, place = ruled.fleet, Place("from")
    if not isinstance(source, str) or source not in fleet.hosts:
        known = nearest(source, fleet.hosts) if isinstance(source, str) else ""
        place.fail(f"there is no host {shown(source)}", f"{known}Name a host of the inventory")
    if isinstance(to, str) and to in fleet.hosts and to not in fleet.networks:
        to = f"host:{to}"
    terms = read_terms(to, Place("to"), vocabulary(fleet))
    wanted = find_service(_spelt(service), Place("service"), fleet.services)
    text = ", ".join(term.text for term in terms)
    origin = read_terms(f"host:{source}", place, vocabulary(fleet))
    assertion = Assertion(Place("explain"), text, origin, terms, wanted.parts, "allowed")
    return _Question(fleet.hosts[source], text, wanted, assertion)


def _spelt(service: Any) -> Any:
    """Return a service as the inventory writes it: on a command line, tcp/8443 is shorter."""
    if isinstance(service, str) and "/" in service:
        protocol, _slash, ports = service.partition("/")
        return {"protocol": protocol, "ports": ports.split(",")}
    return service


def _outcomes(prover: Prover, question: _Question, gone: frozenset[tuple[str, str]]) -> list[_Answer]:
    """Return what decides, each with its packets by family."""
    found: dict[tuple[str, str, str], tuple[Outcome, list[tuple[str, Region]]]] = {}
    for family in FAMILIES:
        for outcome in prover.outcomes(question.assertion, question.host, family, gone).outcomes:
            name = outcome.rule.name if outcome.rule else ""
            found.setdefault((outcome.chain, name, outcome.action), (outcome, []))[1].append((family, outcome.region))
    return list(found.values())


def _reason(
    ruled: Ruled, prover: Prover, question: _Question, outcome: Outcome, regions: list[tuple[str, Region]]
) -> dict[str, Any]:
    policy = ruled.policies.get(question.host.name)
    packets = describe(regions, prover.symbols(question.host), prover.contexts(question.host))
    more = f"; and {len(packets) - _TOLD} kinds of packets more" if len(packets) > _TOLD else ""
    text = f"{'; '.join(packets[:_TOLD])}{more}: {verdict(outcome, policy)}"
    decided = _decided(outcome, policy.composition if policy else None, text)
    return {"level": "host", "packets": packets, **decided}


def _router_reason(ruled: Ruled, question: _Question, router: str, outcome: Outcome) -> dict[str, Any]:
    """Return a reason of a router, which holds the host to the same grants and forbids."""
    text = f"at the border: {verdict(outcome, ruled.policies[router])}"
    return {"level": "border", "router": router, **_decided(outcome, _seen_at_border(ruled, question.host), text)}


def _decided(outcome: Outcome, composition: Composition | None, text: str) -> dict[str, Any]:
    """Return what decides, and what of a policy (None: there is none) it comes from."""
    source = source_of(outcome.rule.name, sources(composition)) if outcome.rule and composition else None
    return {
        "verdict": outcome.action,
        "rule": outcome.rule and outcome.rule.name,
        "chain": outcome.chain,
        "origin": source.origin if source else None,
        "place": source.place if source else None,
        "limited": bool(outcome.rule and outcome.rule.limit),
        "text": text,
    }


def _remedies(ruled: Ruled, prover: Prover, question: _Question, routers: Iterable[tuple[str, Outcome]]) -> list[str]:
    """Return the lines that would have to stand in the inventory: waivers of what forbids it, then a grant."""
    if question.host.name not in ruled.policies:
        return _remedies_at_border(ruled, question, routers)
    waived: dict[str, None] = {}
    gone: frozenset[tuple[str, str]] = frozenset()
    known = sources(ruled.policies[question.host.name].composition)
    ruleset = ruled.lowered[question.host.name].enforced
    while True:
        stops = [o for o, _r in _outcomes(prover, question, gone) if not o.accepts]
        forbids = [found for o in stops if (found := _forbid_of(o.rule, known)) and found.origin not in waived]
        if not forbids:
            break
        waived.update((forbid.origin, None) for forbid in forbids)
        gone |= {
            (each.chain, each.name)
            for chain in ruleset.chains
            for each in chain.rules
            if (found := _forbid_of(each, known)) and found.origin in waived
        }
    return _lines(ruled, question, list(waived), needs_grant=any(o.rule is None for o in stops))


def _remedies_at_border(ruled: Ruled, question: _Question, routers: Iterable[tuple[str, Outcome]]) -> list[str]:
    """Return the lines for a host without rules of ours: a waiver of what forbids it, or else a grant."""
    known = sources(_seen_at_border(ruled, question.host))
    forbids = [found.origin for _router, o in routers if not o.accepts and (found := _forbid_of(o.rule, known))]
    return _lines(ruled, question, list(dict.fromkeys(forbids)), needs_grant=not forbids)


def _seen_at_border(ruled: Ruled, host: Host) -> Composition:
    """Return the policy of a host as the first router sees it that it is behind."""
    borders = (policy.border for policy in ruled.policies.values() if policy.border)
    behind = (behind for border in borders for behind in border.behind if host.name in behind.hosts)
    return next((found.composition for found in behind), Composition(host.profiles))


def _forbid_of(rule: Rule | None, known: Mapping[str, Source]) -> Source | None:
    source = source_of(rule.name, known) if rule is not None else None
    return source if source is not None and source.kind == "forbid" else None


def _lines(ruled: Ruled, question: _Question, forbids: list[str], *, needs_grant: bool) -> list[str]:
    suffix = as_suffix(question.host.name)
    service = question.service.text or question.service.name
    to = ", ".join(f'"{term.text}"' if ":" in term.text else term.text for term in question.assertion.to)
    lines: list[str] = []
    if forbids:
        expires = format_time(parse_time(ruled.fleet.now) + _WAIVER)
        lines.append(f"{PREFIX}waivers__{suffix}:")
        lines += [
            f'  - {{forbid: {forbid}, service: {service}, to: [{to}], reason: …, owner: …, expires: "{expires}"}}'
            for forbid in forbids
        ]
    if needs_grant:
        lines += [f"{PREFIX}allow__{suffix}:", f"  - {{service: {service}, to: [{to}], reason: …}}"]
    return lines
