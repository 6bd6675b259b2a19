# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolves networks to addresses. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_ADDRESSES, ALL_IPV4, FAMILIES, Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges, intersect, merge, subtract
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_addresses
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Definition, Host, Term
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place

# Networks that every inventory must speak about, be it by an explicit []: without names and time a host breaks, and
# nobody finds out why.
DEMANDED = ("resolvers", "time_servers")
# Networks that shipped profiles name; until the inventory defines them, these grants are not in use.
OPTIONAL = ("mirrors", "relays", "databases", "directories", "log_sinks", "proxies", "administered", "monitored")

# The IANA special-purpose address registries (RFC 6890), less what they call globally reachable, and multicast.
_NOT_GLOBAL = parse_addresses(
    (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared, behind a carrier's NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the limited broadcast
        "2001::/23",  # protocol assignments
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_GLOBAL_AFTER_ALL = parse_addresses(
    (
        "192.0.0.9/32",  # port control protocol, anycast
        "192.0.0.10/32",  # TURN, anycast
        "2001:1::1/128",  # port control protocol, anycast
        "2001:1::2/128",  # TURN, anycast
        "2001:1::3/128",  # DNS service registration, anycast
        "2001:3::/32",  # AMT
        "2001:4:112::/48",  # AS112
        "2001:20::/28",  # ORCHIDv2
        "2001:30::/28",  # drone remote identification
    )
)
# Where clouds tell a machine about itself, keys among it: most of them at the first, Amazon by IPv6 at the second, and
# Azure's platform at the third, whose address looks like anybody's and which answers Azure's own machines only.
_CLOUD_METADATA = parse_addresses(("169.254.169.254", "fd00:ec2::254", "168.63.129.16"))
_GLOBAL_UNICAST = parse_addresses(("2000::/3",)).ipv6
# Translators put an IPv4 address into the last 32 bits of this prefix (RFC 6052).
_EMBEDDED = int("0064ff9b" + "0" * 24, 16)


def embed(ipv4: Ranges) -> Ranges:
    """Return the IPv6 addresses under 64:ff9b::/96 by which a translator reaches these IPv4 addresses."""
    return tuple((_EMBEDDED + first, _EMBEDDED + last) for first, last in ipv4)


def join(sets: Iterable[Addresses]) -> Addresses:
    """Return what is in any of these sets."""
    sets = list(sets)
    if len(sets) == 1:
        return sets[0]
    return Addresses(merge(r for s in sets for r in s.ipv4), merge(r for s in sets for r in s.ipv6))


def minus(left: Addresses, right: Addresses) -> Addresses:
    """Return what is in ``left`` and not in ``right``."""
    return Addresses(subtract(left.ipv4, right.ipv4), subtract(left.ipv6, right.ipv6))


def meet(left: Addresses | None, right: Addresses) -> bool:
    """Tell whether an address is in both; of addresses that nobody knows (None) there is none."""
    return left is not None and any(intersect(left.of(family), right.of(family)) for family in FAMILIES)


def _internet() -> Addresses:
    excluded = minus(_NOT_GLOBAL, _GLOBAL_AFTER_ALL)
    ipv4 = subtract(ALL_IPV4, merge(excluded.ipv4 + _CLOUD_METADATA.ipv4))
    return Addresses(ipv4, merge(subtract(_GLOBAL_UNICAST, excluded.ipv6) + embed(ipv4)))


INTERNET = _internet()
SHIPPED: Mapping[str, Definition] = {
    name: Definition(Place(f"shipped networks.{name}"), (Term(name, "addresses", addresses=addresses),))
    for name, addresses in (("internet", INTERNET), ("cloud_metadata", _CLOUD_METADATA))
}
_UNUSABLE = parse_addresses(("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::/127", "ff00::/8"))


def is_usable(addresses: Addresses) -> bool:
    """Tell whether other hosts can reach a host by these: no loopback, multicast or unspecified address is in them."""
    return not meet(addresses, _UNUSABLE)


class Members:
    """The addresses of hosts and groups, each looked up once."""

    def __init__(self, hosts: Mapping[str, Host], groups: Mapping[str, tuple[str, ...]]) -> None:
        self._hosts = hosts
        self._groups = groups
        self._found: dict[Term, Addresses] = {}

    def resolve(self, term: Term, place: Place) -> Addresses:
        """Return the addresses of ``group:G`` or ``host:H``."""
        if term not in self._found:
            names = self._groups[term.name] if term.kind == "group" else (term.name,)
            if not names:
                place.fail(f"the group '{term.name}' has no hosts", "Put hosts into it, or name another network")
            self._found[term] = join(self._addresses(name, term, place) for name in names)
        return self._found[term]

    def _addresses(self, name: str, term: Term, place: Place) -> Addresses:
        addresses = self._hosts[name].addresses
        if addresses is None:
            place.fail(
                f"'{term.text}' names the host {name}, which has no address",
                f"Set egress_firewall_addresses of {name}",
            )
        return addresses


class Networks:
    """The networks as one set of hosts knows them: its definitions may differ from those of other sites."""

    def __init__(self, definitions: Mapping[str, Definition], members: Members) -> None:
        self._definitions = definitions
        self._members = members
        self._found: dict[str, Addresses] = {}

    def check(self) -> None:
        """Resolve every definition once, so that none is wrong that nobody uses yet."""
        for name in self._definitions:
            self._define(name, ())

    def is_defined(self, name: str) -> bool:
        """Tell whether the inventory defines this network."""
        return name in self._definitions

    def resolve(self, terms: tuple[Term, ...], place: Place, *, lenient: bool) -> Addresses:
        """Return the addresses of these terms; where ``lenient``, an undefined network has none."""
        return join(self._resolve(term, place, (), lenient) for term in terms)

    def _resolve(self, term: Term, place: Place, path: tuple[str, ...], lenient: bool) -> Addresses:
        if term.kind == "any":
            return ALL_ADDRESSES
        if term.kind == "addresses":
            return term.addresses
        if term.kind != "network":
            return self._members.resolve(term, place)
        if term.name in self._definitions:
            return self._define(term.name, path)
        if lenient:
            return Addresses()
        place.fail(f"the network '{term.name}' is not defined", f"Define {term.name} in egress_firewall_networks")

    def _define(self, name: str, path: tuple[str, ...]) -> Addresses:
        definition = self._definitions[name]
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            definition.place.fail(f"it contains itself: {circle}", "Take one of these names out")
        if name not in self._found:
            include, without = (
                join(self._resolve(term, definition.place, (*path, name), False) for term in terms)
                for terms in (definition.include, definition.without)
            )
            if definition.include and minus(include, without) == Addresses():
                definition.place.fail("nothing is left of it", "Write [] if there is none, or mend its members")
            self._found[name] = minus(include, without)
        return self._found[name]
