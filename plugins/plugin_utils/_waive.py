# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holds waivers against the forbids of hosts, and names what is composed. Private to this collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from zlib import crc32

from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import common
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import Networks
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Forbidden, Reach, Term, Waived, Waiver
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place, nearest, shown

# With the protocol that a rule's name gets behind its origin, well below what the kernel stores of a comment.
_LONGEST_ORIGIN = 100


def waive(
    forbids: Sequence[Forbidden], waivers: Sequence[Waiver], networks: Networks, host: str, now: str
) -> tuple[list[Forbidden], list[Waived]]:
    """Return the forbids with the waivers of each that have not expired, and those that have, which exempt nothing."""
    origins = named([(f"{w.label}/{w.service.name}", label(w.to)) for w in waivers])
    by_forbid: dict[str, list[Waived]] = {forbidden.origin: [] for forbidden in forbids}
    expired: list[Waived] = []
    for origin, waiver in zip(origins, waivers, strict=True):
        if waiver.expires <= now:
            expired.append(Waived(origin, waiver, ()))
            continue
        forbidden = _meant(forbids, waiver, host)
        by_forbid[forbidden.origin].append(Waived(origin, waiver, _exempted(forbidden, waiver, networks, host)))
    return [replace(f, waived=tuple(by_forbid[f.origin])) for f in forbids], expired


def _meant(forbids: Sequence[Forbidden], waiver: Waiver, host: str) -> Forbidden:
    """Return the forbid that a waiver names; this host must have it."""
    for forbidden in forbids:
        if forbidden.origin == waiver.forbid:
            return forbidden
    what = f"this host has no forbid {shown(waiver.forbid)}, so that the waiver exempts nothing"
    hint = nearest(waiver.forbid, [forbidden.origin for forbidden in forbids])
    at(waiver.place, host).key("forbid").fail(what, f"{hint}Name the origin of a forbid, or take the waiver out")


def _exempted(forbidden: Forbidden, waiver: Waiver, networks: Networks, host: str) -> tuple[Reach, ...]:
    place = at(waiver.place, host)
    destination = networks.resolve(waiver.to, place.key("to"), lenient=False)
    wanted = [Reach(part, destination) for part in waiver.service.parts]
    found = (common(reach, mine) for reach in forbidden.reaches for mine in wanted)
    exempted = tuple(reach for reach in found if reach is not None)
    if not exempted:
        forbid = forbidden.forbid
        but = f" except {label(forbid.without)}" if forbid.without else ""
        place.fail(
            f"it exempts nothing, as '{forbidden.origin}' forbids {forbid.service.name} to {label(forbid.to)}{but}, "
            f"and {waiver.service.name} to {label(waiver.to)} is no part of that",
            "Mend 'service' and 'to', or take the waiver out",
        )
    return exempted


def at(place: Place, host: str) -> Place:
    """Return a place as this host sees it."""
    return replace(place, host=host)


def label(terms: Iterable[Term]) -> str:
    """Return an expression as one word."""
    return "+".join(term.text for term in terms)


def named(names: Sequence[tuple[str, str]], longest: int = _LONGEST_ORIGIN) -> list[str]:
    """Return an origin for each: the name, with the network where two collide, with a number where they still do."""
    often = Counter(name for name, _network in names)
    origins: dict[str, None] = {}
    for name, network in names:
        origin = _storable(name if often[name] == 1 else f"{name}/{network}", longest)
        # one of as many candidates as there are names is free
        numbered = (origin if number == 1 else f"{origin}/{number}" for number in range(1, len(names) + 1))
        origins[next((candidate for candidate in numbered if candidate not in origins), "")] = None
    return list(origins)


def _storable(name: str, longest: int) -> str:
    """Return a name that the kernel's listing can hold: printable, unquoted ASCII, and short."""
    text = "".join(c if c.isascii() and c.isprintable() and c not in "\"'\\ " else "_" for c in name)
    if len(text) <= longest:
        return text
    return f"{text[: longest - 9]}~{crc32(name.encode()):08x}"
