# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lowers what the containers of a host may send to rules and chains of the data contract. Private to this collection.

Containers are behind bridges, and all that comes by another interface is from outside. What stays between bridges does
not leave the host. What leaves meets the host's forbids, then the grants to containers; the host's own grants are not
theirs. Addresses are translated by whoever runs the containers: packets are seen with the containers' own addresses and
ports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ansible_collections.palisade.egress.plugins.plugin_utils._always import refuse_no_syn, stateful
from ansible_collections.palisade.egress.plugins.plugin_utils._declared import (
    ORIGINAL,
    Lane,
    Rule,
    accept_rules,
    ending_rules,
    forbid_chains,
    inbound_ending_rules,
    outbound_rules,
    rule,
    waiver_rules,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._denials import log_default, refuse
from ansible_collections.palisade.egress.plugins.plugin_utils._expiry import inbound_lapses, lapses
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Composition, Settings

_BASE = "forward"


def container_rules(composition: Composition, settings: Settings) -> Iterator[Rule]:
    """Yield the rules by which a host treats what its containers send and get."""
    bridges = list(settings.container_bridges)
    theirs = replace(composition, grants=composition.containers)
    accepts = [accepted for accepted in composition.container_accepts if accepted.is_used]
    taken = forbid_chains(composition.forbids).values()
    forbids = forbid_chains(composition.forbids, taken, "containers")
    out, into = (
        Lane(chain, _BASE, expired, settings)
        for chain, expired in (("containers", "expired_containers"), ("into_containers", "expired_into"))
    )
    yield rule(_BASE, "always/between-containers", "accept", in_interface=bridges, out_interface=bridges)
    if settings.live_flows == "end" and lapses(theirs):
        yield rule(_BASE, "always/ending", "jump", target="ending", in_interface=bridges, **ORIGINAL)
        yield from ending_rules(replace(out, chain="ending"), theirs, forbids)
    is_closed = settings.input == "closed"
    if is_closed and settings.live_flows == "end" and inbound_lapses(accepts):
        yield rule(_BASE, "always/inbound-ending", "jump", target="ending_into", out_interface=bridges, **ORIGINAL)
        yield from inbound_ending_rules(replace(into, chain="ending_into"), accepts)
    yield from stateful(settings, _BASE)
    # Who has several networks may answer by another one.
    honest: Rule = {"in_interface": bridges, "reverse_path": "strict", "ctstate": ["new"]}
    yield from refuse(settings, _BASE, "always/spoofed-source", "spoofed", **honest)
    yield from refuse_no_syn(settings, _BASE)
    if declared := list(outbound_rules(out, theirs, forbids)):
        yield rule(_BASE, "always/containers", "jump", target=out.chain, in_interface=bridges)
        yield from declared
        yield from waiver_rules(out, theirs, forbids)
    if not is_closed:
        yield rule(_BASE, "always/inbound", "accept", out_interface=bridges)
    elif accepts:
        yield rule(_BASE, "always/inbound", "jump", target=into.chain, out_interface=bridges)
        yield from accept_rules(into, accepts)
    yield from log_default(settings, _BASE)
