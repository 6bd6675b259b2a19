# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory as plain data. Private to this collection.

This is the only file that knows the insides of ansible. It relies on private interfaces of ansible-core (2.19 and
later): the attributes of ``HostVars`` and the constructors of it, of ``VariableManager`` and of ``InventoryManager``.
There is no public way to ask for the variables of the *inventory* alone; and the difference is one of security: a
fact comes from a managed host, and no host may widen its own policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place, kind

PREFIX = "egress_firewall_"
# How Ansible logs in: the only variables of Ansible's own that a policy is compiled from.
CONNECTION = (
    "ansible_host",
    "ansible_port",
    "ansible_connection",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
)
_DEEPEST = 20
_TEMPLATE_MEND = "Mend the template; facts and variables of plays do not count in a policy"
_SCALARS = (bool, int, float, date, type(None))


class _NoFacts:
    """Stands in for the fact cache, which may be a file or database that outlives a run."""

    def get(self, _host: str) -> dict[str, Any]:
        return {}


class Inventory:
    """Hosts, groups, and the policy variables of each host, templated when they are asked for.

    Most values are the same object for all hosts of a group and hold no template: these are converted once, which is
    what keeps a thousand hosts cheap.
    """

    def __init__(self, hostvars: Mapping[str, Any], groups: Mapping[str, Any]) -> None:
        self._hostvars = _inventory_only(hostvars)
        self._is_ansible = self._hostvars is not hostvars
        self.groups = _read_groups(groups, tuple(str.__str__(host) for host in self._hostvars))
        self.hosts = self.groups["all"]
        self._raw = {host: self._policy_variables(host) for host in self.hosts}
        self._converted: dict[int, tuple[Any, Any]] = {}

    def _policy_variables(self, host: str) -> dict[str, Any]:
        variables = self._hostvars.raw_get(host) if self._is_ansible else self._hostvars[host]
        if not isinstance(variables, Mapping):
            raise PolicyError(f"host {host}", f"its variables are {kind(variables)}", "Give a mapping of variables")
        return {name: value for name, value in variables.items() if _is_policy(name)}

    def names(self, host: str) -> Iterator[str]:
        """Yield the names of the policy variables that this host shows."""
        return (str.__str__(name) for name in self._raw[host] if name.startswith(PREFIX))

    def shows(self, host: str, name: str) -> bool:
        """Tell whether this host shows this variable."""
        return name in self._raw[host]

    def raw(self, host: str, name: str) -> Any:
        """Return a variable as the inventory has it, templates and all."""
        return self._raw[host][name]

    def value(self, host: str, name: str) -> Any:
        """Return a variable as plain data."""
        raw, place = self._raw[host][name], Place(name, host)
        if id(raw) in self._converted:
            return self._converted[id(raw)][1]
        if self._is_ansible and not _is_fixed(raw, 0):
            return _plain(self._templated(host, name), place, 0)
        plain = _plain(raw, place, 0)
        self._converted[id(raw)] = (raw, plain)  # holding the object keeps its id from being used again
        return plain

    def _templated(self, host: str, name: str) -> Any:
        """Template one variable in its host's context, other hosts' variables included."""
        variables = {**self._hostvars.raw_get(host), "hostvars": self._hostvars}
        try:
            return type(self._hostvars[host])(variables, loader=self._hostvars._loader, host=host)[name]
        except AnsibleError as error:
            what = " ".join(str(error).split()).rstrip(".")
            raise PolicyError(str(Place(name, host)), f"its template fails: {what}", _TEMPLATE_MEND) from error


def load_inventory(path: str, hostvars: Any) -> Inventory:
    """Return another inventory, a file or folder, read as ansible reads the one that ``hostvars`` belongs to.

    The command line's variables and vault secrets are the same.
    """
    if not Path(path).exists():
        raise PolicyError(path, "there is no such file or folder", "Name an inventory, or a folder with one")
    if not hasattr(hostvars, "raw_get"):
        raise PolicyError("hostvars", f"{kind(hostvars)} stands where hostvars belongs", "Give the variable hostvars")
    loader = hostvars._loader
    manager = type(hostvars._inventory)(loader=loader, sources=[str(Path(path).absolute())])
    groups = manager.get_groups_dict()
    if not groups.get("all"):
        raise PolicyError(path, "ansible finds no host there", "Name an inventory that ansible can read")
    variables = type(hostvars._variable_manager)(loader=loader, inventory=manager)
    return Inventory(type(hostvars)(inventory=manager, variable_manager=variables, loader=loader), groups)


def _inventory_only(hostvars: Any) -> Any:
    """Return hostvars that know the inventory and the command line's variables, but no facts and no play.

    The variable manager must be a new one: HostVars makes itself known to the one that it is given.
    """
    if isinstance(hostvars, dict):
        return hostvars
    if not hasattr(hostvars, "raw_get"):
        raise PolicyError("hostvars", f"{kind(hostvars)} stands where hostvars belongs", "Give the variable hostvars")
    loader, inventory = hostvars._loader, hostvars._inventory
    manager = type(hostvars._variable_manager)(loader=loader, inventory=inventory)
    manager._fact_cache = _NoFacts()
    return type(hostvars)(inventory=inventory, variable_manager=manager, loader=loader)


def _read_groups(groups: Any, hosts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the hosts of each group, empty groups and ``all`` included."""
    if not isinstance(groups, Mapping):
        raise PolicyError("groups", f"{kind(groups)} stands where the groups belong", "Give the variable groups")
    known, plain = frozenset(hosts), {"all": hosts}
    for name, members in groups.items():
        if not isinstance(name, str) or not isinstance(members, (list, tuple)):
            raise PolicyError(f"groups.{name}", "not a list of hosts", "Give the variable groups")
        if strangers := [member for member in members if not isinstance(member, str) or member not in known]:
            raise PolicyError(
                f"groups.{name}", f"host {strangers[0]!r} is not in hostvars", "Give both of one inventory"
            )
        plain[str.__str__(name)] = tuple(str.__str__(member) for member in members)
    return plain


def _is_policy(name: object) -> bool:
    return isinstance(name, str) and (name.startswith(PREFIX) or name in CONNECTION)


def _is_fixed(raw: Any, depth: int) -> bool:
    """Tell whether a raw value holds nothing to template; what is not surely fixed (vaulted text) is not."""
    if isinstance(raw, str):
        return not any(mark in raw for mark in ("{{", "{%", "{#", "#jinja2"))
    if depth > _DEEPEST or isinstance(raw, _SCALARS):
        return True
    if isinstance(raw, dict):
        return all(_is_fixed(value, depth + 1) for value in raw.values())
    return isinstance(raw, list) and all(_is_fixed(value, depth + 1) for value in raw)


def _plain(value: Any, place: Place, depth: int) -> Any:
    """Return a copy in Python's own types: templating gives subclasses that carry tags, and lazy containers."""
    if depth > _DEEPEST:
        place.fail("nested too deeply", "Look for a YAML alias that contains itself")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        keys = {str.__str__(key) if isinstance(key, str) else key: key for key in value}
        return {plain: _plain(value[key], place, depth + 1) for plain, key in keys.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, place, depth + 1) for item in value]
    for number in (int, float):
        if isinstance(value, number) and not isinstance(value, bool):
            return number(value)
    return value
