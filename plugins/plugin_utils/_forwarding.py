# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a host forwards packets of others, and for which containers. Private to this collection."""

from __future__ import annotations

from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES
from ansible_collections.palisade.egress.plugins.module_utils._options import PARSERS
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Composition, Forwarding, Host, Settings
from ansible_collections.palisade.egress.plugins.plugin_utils._profiles import CONTAINER_HOST, ROUTER
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    read_by,
    read_choice,
    read_flag,
    read_list,
    read_mapping,
)

_AUTO = "auto"
_EXAMPLE = "{ipv4: on, ipv6: off}, or one word for both families: auto, on, off"


def read_forwarding(value: Any, place: Place) -> Forwarding:
    """Return what an inventory says about forwarding; YAML reads ``on`` and ``off`` without quotes as booleans."""
    if isinstance(value, dict):
        said = read_mapping(value, place, keys=FAMILIES, example=_EXAMPLE)
        return Forwarding(**{family: read_flag(said[family], place.key(family)) for family in said})
    if isinstance(value, bool):
        return Forwarding(value, value)
    word = read_choice(value, place, (_AUTO, "on", "off"))
    return Forwarding() if word == _AUTO else Forwarding(word == "on", word == "on")


def read_bridges(value: Any, place: Place) -> tuple[str, ...]:
    """Return the names of the bridges behind which containers are."""
    bridges = read_list(value, place, example="[podman0, docker0]")
    return tuple(read_by(PARSERS["in_interface"], bridges, place)) if bridges else ()


def forwarded(composition: Composition, settings: Settings) -> dict[str, bool]:
    """Return by family whether a host forwards: routers and hosts of containers do, unless the inventory says no.

    Nothing is said where everything of ours is to go.
    """
    if settings.state == "absent":
        return {}
    by_profile = composition.is_router or composition.is_container_host
    said = {family: settings.forwarding.of(family) for family in FAMILIES}
    return {family: by_profile if says is None else says for family, says in said.items()}


def unasked(composition: Composition, settings: Settings) -> list[str]:
    """Return the families that are not to be forwarded though nobody said so: not to be turned off without asking."""
    forwards = forwarded(composition, settings)
    return [family for family, on in forwards.items() if not on and settings.forwarding.of(family) is None]


def check_forwarding(host: Host, composition: Composition) -> None:
    """Refuse a host that would forward and whose rules would let nothing pass, or two policies for what passes."""
    if composition.is_router and composition.is_container_host:
        what = f"the host has both profiles {ROUTER} and {CONTAINER_HOST}, and what it forwards needs one policy"
        Place(PREFIX + "profiles", host.name).fail(what, "Take it out of the groups of one of them")
    if any(forwarded(composition, host.settings).values()) and not (
        composition.is_router or composition.is_container_host
    ):
        what = "the host is to forward packets of others, and none of its profiles says where they may go"
        mend = f"Put it into the group {ROUTER} or {CONTAINER_HOST}, or turn it off"
        Place(PREFIX + "forwarding", host.name).fail(what, mend)
    if composition.is_container_host and not host.settings.container_bridges:
        what = "the host has the profile container_host, and no bridge for its containers"
        mend = "Name it like [podman0], or take the host out of the group"
        Place(PREFIX + "container_bridges", host.name).fail(what, mend)
