# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a rule back to what an inventory declares. Private to this collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Composition


@dataclass(frozen=True)
class Source:
    """What a rule comes from: ``kind`` is grant, forbid, waiver or accept, ``place`` a variable or shipped profile."""

    kind: str
    origin: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.origin}' in {self.place}"


def sources(composition: Composition) -> Mapping[str, Source]:
    """Return what rules come from, by the rule's name without the protocol that may stand behind it."""
    found: dict[str, Source] = {}
    for forbidden in composition.forbids:
        found[f"forbid/{forbidden.origin}"] = Source("forbid", forbidden.origin, forbidden.forbid.place.path)
        for waived in forbidden.waived:
            found[f"waiver/{waived.origin}"] = Source("waiver", waived.origin, waived.waiver.place.path)
    for accepted in composition.accepts:
        found[f"accept/{accepted.origin}"] = Source("accept", accepted.origin, accepted.accept.place.path)
    for granted in composition.grants:
        source = Source("grant", granted.origin, granted.grant.place.path)
        found[f"grant/{granted.origin}"] = source
        found.setdefault(granted.origin, source)
    return found


def source_of(rule: str, known: Mapping[str, Source]) -> Source | None:
    """Return what a rule comes from; None for what every host needs and nobody declares."""
    name = rule
    while name:
        if name in known:
            return known[name]
        name = name.rpartition("/")[0]
    return None
