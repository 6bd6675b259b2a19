# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compiles a fleet into policies, one for each managed host. Private to this collection."""

from __future__ import annotations

from ansible_collections.palisade.egress.plugins.plugin_utils._behind import Borders
from ansible_collections.palisade.egress.plugins.plugin_utils._compose import compose
from ansible_collections.palisade.egress.plugins.plugin_utils._forwarding import check_forwarding
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import DEMANDED, Members, Networks
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Composition,
    Definition,
    Fleet,
    Host,
    Policy,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._probes import without_own
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place


def compile_fleet(fleet: Fleet) -> dict[str, Policy]:
    """Return the policies of all managed hosts by name; raises ``PolicyError`` if one cannot be had."""
    compiler = _Compiler(fleet)
    return {host.name: compiler.policy(host) for host in fleet.hosts.values() if host.settings.managed}


class _Compiler:
    """Composes once for all hosts that have everything in common, and resolves each network once for them."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._views = Views(fleet)
        self._compositions: dict[tuple[tuple[str, ...], ...], Composition] = {}
        self._borders = Borders(fleet, self._composition)

    def policy(self, host: Host) -> Policy:
        """Return the policy of one host; one that is to have none left needs no sound one."""
        if host.settings.state == "absent":
            return Policy(host.name, host.settings, Composition(host.profiles))
        composition = self._composition(host)
        check_forwarding(host, composition)
        probes = without_own(composition.probes, host.addresses)
        border = self._borders.of(host, host.router, self._views.of(host)) if host.router else None
        return Policy(host.name, host.settings, composition, probes, border)

    def _composition(self, host: Host) -> Composition:
        """Return what a host has in common with others; it need not be managed, as routers hold it to its policy."""
        key = (host.profiles, host.overlays, host.settings.icmp.outbound)
        if key not in self._compositions:
            networks = self._views.of(host)
            _check_demanded(networks, host.name)
            self._compositions[key] = compose(self._fleet, host, networks)
        return self._compositions[key]


class Views:
    """The networks as each host knows them; hosts with the same redefinitions share one view."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._members = Members(fleet.hosts, fleet.groups)
        self._networks: dict[tuple[str, ...], Networks] = {}
        self._networks_of((), "")

    def of(self, host: Host) -> Networks:
        """Return the networks as one host knows them."""
        redefining = tuple(suffix for suffix in host.overlays if self._fleet.overlays[suffix].networks)
        return self._networks_of(redefining, host.name)

    def _networks_of(self, suffixes: tuple[str, ...], host: str) -> Networks:
        """Return the networks as hosts with these redefinitions know them."""
        if suffixes not in self._networks:
            definitions = dict(self._fleet.networks)
            definitions.update(_redefinitions(self._fleet, suffixes, host))
            self._networks[suffixes] = Networks(definitions, self._members)
            self._networks[suffixes].check()
        return self._networks[suffixes]


def _redefinitions(fleet: Fleet, suffixes: tuple[str, ...], host: str) -> dict[str, Definition]:
    """Return what these suffixed variables redefine; two of them may not say different things."""
    found: dict[str, tuple[str, Definition]] = {}
    for suffix in suffixes:
        for name, definition in fleet.overlays[suffix].networks.items():
            other, before = found.setdefault(name, (suffix, definition))
            if (before.include, before.without) != (definition.include, definition.without):
                what = f"{PREFIX}networks__{other} defines this network otherwise for the same host"
                mend = "Make them equal, or leave it to one of them"
                Place(f"{PREFIX}networks__{suffix}.{name}", host).fail(what, mend)
    return {name: definition for name, (_suffix, definition) in found.items()}


def _check_demanded(networks: Networks, host: str) -> None:
    for name in DEMANDED:
        if not networks.is_defined(name):
            what = "it is not set; a host that loses names or time without a word is the classic outage"
            mend = f"Set it in {PREFIX}networks in group_vars/all like {name}: [198.51.100.53], or to [] for none"
            Place(f"{PREFIX}networks.{name}", host).fail(what, mend)
