# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of the policy: which exist, and what the whole fleet must agree on. Private to this collection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import PREFIX, Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place, guess, nearest, shown_name

# What composes over groups: its variables carry a suffix.
SUFFIXED = ("allow", "forbid", "waivers", "accept", "networks", "probes")
# What there is once for the whole fleet.
FLEET: Mapping[str, Any] = {
    "assertions": [],
    "controllers": [],
    "profiles": {},
    "services": {},
    "networks": {},
    "waiver_days": 366,
}
# What each host has for itself.
HOST: Mapping[str, Any] = {
    "addresses": [],
    "managed": True,
    "router": {},
    "mode": "enforce",
    "default_verdict": "drop",
    "reject_with": "icmp-port-unreachable",
    "input": "guard",
    "icmp": {"out": ["echo-request"], "in": ["echo-request"]},
    "live_flows": "end",
    "forwarding": "auto",
    "container_bridges": ["podman0", "docker0"],
    "backend": "auto",
    "state": "present",
    "confirm_timeout": 30,
    "persist": True,
    "generations": 5,
    "boot_failure": "closed",
    "guard": True,
    "log": {"rate": "10/second", "group": None, "chains": ["output", "forward"], "protocols": False},
}
DEFAULTS = {**FLEET, **HOST}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True)
class Suffixed:
    """A suffixed variable, the hosts that it applies to, and its value for them (None: for nobody)."""

    kind: str
    suffix: str
    members: tuple[str, ...]
    value: Any
    place: Place


def check_names(inventory: Inventory) -> None:
    """Refuse variables that look like ours and are not."""
    known: set[str] = set()
    for host in inventory.hosts:
        for name in inventory.names(host):
            if name not in known:
                _check_name(name, Place(name, host))
                known.add(name)


def _check_name(name: str, place: Place) -> None:
    rest = name.removeprefix(PREFIX)
    kind, _mark, suffix = rest.partition("__")
    if rest in FLEET or rest in HOST or (kind in SUFFIXED and suffix):
        return
    if kind in SUFFIXED:
        mend = f"Append the name of the group or host that it is for, like {PREFIX}{kind}__web"
        place.fail("this variable needs a suffix", mend)
    hint = guess(kind, SUFFIXED, PREFIX) if suffix else guess(rest, DEFAULTS, PREFIX)
    place.fail("unknown variable", f"{hint}Mend it or take it out")


def fleet_value(inventory: Inventory, kind: str) -> Any:
    """Return a variable that all hosts must show alike."""
    name = PREFIX + kind
    showing = [host for host in inventory.hosts if inventory.shows(host, name)]
    if not showing:
        return FLEET[kind]
    mend = f"Set {name} once, in group_vars/all"
    if len(showing) < len(inventory.hosts):
        without = next(host for host in inventory.hosts if not inventory.shows(host, name))
        Place(name, showing[0]).fail(f"it is for the whole fleet, and host {without} does not show it", mend)
    value = inventory.value(showing[0], name)
    for host in showing[1:]:
        if not _same(inventory.value(host, name), value):
            Place(name, host).fail(f"it is for the whole fleet, and host {showing[0]} shows another value", mend)
    return value


def suffixed(inventory: Inventory) -> list[Suffixed]:
    """Return all suffixed variables, in the order of their suffixes."""
    targets = _targets(inventory)
    showing: dict[str, list[str]] = {}
    for host in inventory.hosts:
        for name in inventory.names(host):
            if "__" in name.removeprefix(PREFIX):
                showing.setdefault(name, []).append(host)
    return [_read(inventory, name, showing[name], targets) for name in sorted(showing)]


def _targets(inventory: Inventory) -> Mapping[str, list[tuple[str, tuple[str, ...]]]]:
    """Return, by suffix, the groups and hosts that it can mean, as a word and the hosts."""
    targets: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for group, members in inventory.groups.items():
        targets.setdefault(as_suffix(group), []).append((f"group {shown_name(group)}", members))
    for host in inventory.hosts:
        targets.setdefault(as_suffix(host), []).append((f"host {shown_name(host)}", (host,)))
    return targets


def as_suffix(name: str) -> str:
    """Return the suffix for a group or host: its name with ``_`` for what a variable's name cannot have."""
    return _NOT_IN_NAMES.sub("_", name)


def _read(inventory: Inventory, name: str, showing: list[str], targets: Mapping[str, Any]) -> Suffixed:
    kind, _mark, suffix = name.removeprefix(PREFIX).partition("__")
    place = Place(name, showing[0])
    meant = targets.get(suffix, [])
    if not meant:
        place.fail(f"no group or host is called '{suffix}'", f"{nearest(suffix, targets)}Name a group or host")
    if len(meant) > 1:
        both = " and ".join(word for word, _members in meant)
        place.fail(f"its suffix means {both}", "Rename one of them, or use another group")
    word, members = meant[0]
    _check_showing(inventory, name, showing, (word, members))
    if not members:
        return Suffixed(kind, suffix, members, None, place)
    return Suffixed(kind, suffix, members, _agreed(inventory, name, members, word), Place(name, members[0]))


def _check_showing(inventory: Inventory, name: str, showing: list[str], meant: tuple[str, tuple[str, ...]]) -> None:
    """All members must show it; outsiders all, or none.

    This takes time by those who show it, not by all hosts: there may be as many such variables as hosts.
    """
    word, members = meant
    inside, shown = frozenset(members), frozenset(showing)
    mend = f"Set it in the variables of {word}, or in group_vars/all"
    if missing := [host for host in members if host not in shown]:
        what = f"it is for {word}, and host {missing[0]}, which that means, does not show it"
        Place(name, showing[0]).fail(what, mend)
    strangers = [host for host in showing if host not in inside]
    if strangers and len(shown) < len(inventory.hosts):
        without = next(host for host in inventory.hosts if host not in shown)
        what = f"it is for {word}, which does not mean this host, and host {without} does not show it"
        Place(name, strangers[0]).fail(what, mend)


def _agreed(inventory: Inventory, name: str, members: tuple[str, ...], word: str) -> Any:
    value = inventory.value(members[0], name)
    for host in members[1:]:
        if not _same(inventory.value(host, name), value):
            what = f"it is for {word}, and host {members[0]} shows another value"
            Place(name, host).fail(
                what, f"Set it once, in the variables of {word}; what differs goes under a host's name"
            )
    return value


def _same(left: Any, right: Any) -> bool:
    return left is right or bool(left == right)


def check_play(inventory: Inventory, host: str, variables: Mapping[str, Any]) -> None:
    """Refuse policy variables that a play, a role or a fact sets: as they count for nothing, they must not be there.

    ``variables`` are those that a task sees on ``host``. A role's defaults that say what is the default anyway pass.
    """
    for name in sorted(name for name in variables if isinstance(name, str) and name.startswith(PREFIX)):
        rest = name.removeprefix(PREFIX)
        known = rest in FLEET or rest in HOST or rest.partition("__")[0] in SUFFIXED
        if known and not _says_nothing_new(inventory, host, name, variables[name]):
            what = "a play, role or fact sets this, and policy comes from the inventory alone"
            Place(name, host).fail(what, "Set it in the inventory: group_vars or host_vars")


def _says_nothing_new(inventory: Inventory, host: str, name: str, value: Any) -> bool:
    if host in inventory.groups["all"] and inventory.shows(host, name):
        return _same(inventory.raw(host, name), value)
    return _same(DEFAULTS.get(name.removeprefix(PREFIX)), value)
