# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolves what a host lets in where its input is closed. Private to this collection."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._boxes import reaches
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import Networks
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Accept, Accepted, Reach
from ansible_collections.palisade.egress.plugins.plugin_utils._waive import at, label, named


def accepted(accepts: Sequence[Accept], networks: Networks, host: str, now: str) -> tuple[Accepted, ...]:
    """Return accepts with their addresses and origins; of those that have expired no rule comes."""
    origins = named([(f"{a.label}/{a.service.name}", label(a.source)) for a in accepts])
    found = ((origin, a, _resolve(a, networks, host)) for origin, a in zip(origins, accepts, strict=True))
    return tuple(
        Accepted(origin, a, "expired")
        if a.expires is not None and a.expires <= now
        else Accepted(origin, a, "in use", r)
        for origin, a, r in found
    )


def _resolve(accept: Accept, networks: Networks, host: str) -> tuple[Reach, ...]:
    place = at(accept.place, host)
    source = networks.resolve(accept.source, place.key("from"), lenient=False)
    if source == Addresses():
        place.key("from").fail(f"{label(accept.source)} has no addresses", "Define it, or take the accept out")
    found = reaches(accept.service, source)
    if not found:
        what = f"{accept.service.name} and {label(accept.source)} have no IP family in common"
        place.fail(what, "Name addresses of the family that the service uses")
    return found
