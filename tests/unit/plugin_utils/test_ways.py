# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""The ways by which Ansible logs in: how they are found, and that no policy compiles which closes one."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from unit.plugin_utils.sites import GROUPS, HOSTS, NOW, members, site

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.plugin_utils._guard import check_ways
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._report import policies
from ansible_collections.palisade.egress.plugins.plugin_utils._ruled import rule
from ansible_collections.palisade.egress.plugins.plugin_utils._ways import find_ways

Variables = dict[str, dict[str, Any]]
ARGS = "ansible_ssh_common_args"
UNTIL = "2099-01-01T00:00:00Z"
# Whoever logs in from ns1 may: nobody else may log in anywhere.
ALLOW = "allow__ns1"
SSH: list[dict[str, Any]] = [{"service": "ssh", "to": "any"}]
EACH = [f"host:{host}" for host in HOSTS if host != "printer1"]


def own(text: str) -> tuple[str, int]:
    """Return an address as the kernel tells this machine's own."""
    address = ip_address(text)
    return f"ipv{address.version}", int(address)


def compiled(variables: Variables, *here: str) -> dict[str, Any]:
    """Return the policies of the site with these variables by host or group; ours may go without their prefix."""
    hostvars = site()
    for target, mine in variables.items():
        for host in members(target):
            full = {n if n.startswith("ansible_") else f"egress_firewall_{n}": value for n, value in mine.items()}
            hostvars[host].update(full)
    return policies(Inventory(hostvars, {"all": list(HOSTS), **GROUPS}), NOW, here=frozenset(map(own, here)))


def refused(variables: Variables, *here: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        compiled(variables, *here)
    return caught.value


def test_what_ssh_cannot_read_is_an_error() -> None:
    error = refused({"web1": {ARGS: "-J bastion1:0"}})
    assert (error.where, error.mend) == (f"{ARGS} on host web1", "Write it like -J bastion1")


# id: variables by host or group
KEPT: dict[str, Variables] = {
    "closed, and accepted": {
        "all": {
            "controllers": ["192.0.2.7"],
            "input": "closed",
            "accept__all": [{"service": "ssh", "from": "192.0.2.7"}],
        }
    },
    "closed by an interface that nobody knows": {
        "all": {
            "controllers": ["192.0.2.7"],
            "input": "closed",
            "accept__all": [{"service": "ssh", "from": "any", "interface": "eth1", "limit": "1/day"}],
        }
    },
    "closed, and no controller known": {"all": {"input": "closed"}},
    "nobody is known to log in": {},
    "from outside": {"all": {"controllers": ["192.0.2.7", "2001:db8:7::/64", "internet"]}},
    "a host that may": {"all": {"controllers": ["host:ns1"], ALLOW: SSH}},
    "by IPv4 alone": {"all": {"controllers": "host:ns1", ALLOW: [{"service": "ssh", "to": "0.0.0.0/0"}]}},
    "by a grant to each": {
        "all": {"controllers": ["host:ns1"], ALLOW: [{"service": "ssh", "to": EACH}]},
    },
    "for one user": {"all": {"controllers": ["host:ns1"], ALLOW: [{**SSH[0], "user": "ansible"}]}},
    "by one interface": {"all": {"controllers": ["host:ns1"], ALLOW: [{**SSH[0], "interface": "eth0"}]}},
    "by and by": {"all": {"controllers": ["host:ns1"], ALLOW: [{**SSH[0], "limit": "20/second"}]}},
    "local": {"all": {ALLOW: SSH}, "ns1": {"ansible_connection": "ansible.builtin.local"}},
    "the only one that is logged in to is itself": {
        "all": {"managed": False, "controllers": ["host:ns1"]},
        "ns1": {"managed": True, "ansible_connection": "local"},
    },
    "containers are not logged in to": {
        "all": {"controllers": ["host:ns1"], "ansible_connection": "community.docker.docker"}
    },
    "a forwarded port": {
        "all": {"controllers": ["host:ns1"], "ansible_host": "127.0.0.1", "ansible_port": 2222},
        "ns1": {"ansible_host": "ns1.example.org"},
    },
    "only where it is logged in to": {
        "all": {"controllers": ["host:ns1"], "managed": False, ALLOW: [{"service": "ssh", "to": "198.51.100.11"}]},
        "web1": {"managed": True, "ansible_host": "198.51.100.11", "addresses": ["198.51.100.11", "198.51.100.111"]},
        "ns1": {"managed": True},
    },
    "no family in common": {
        "all": {"controllers": ["host:ns1"], "managed": False},
        "ns1": {"managed": True, "addresses": ["2001:db8:1::53"]},
        "web2": {"managed": True},
    },
    "at its own port": {
        "all": {
            "controllers": ["host:ns1"],
            "ansible_port": "2222",
            ALLOW: [{"service": {"protocol": "tcp", "ports": [2222]}, "to": "any"}],
        },
    },
    "at several ports": {
        "all": {
            "controllers": ["host:ns1"],
            ALLOW: [*SSH, {"service": {"protocol": "tcp", "ports": [2222]}, "to": "any"}],
        },
        "web2": {"ansible_port": 2222},
    },
    "guard off where it comes from": {"all": {"controllers": ["host:ns1"]}, "ns1": {"guard": False}},
    "guard off where it goes to": {"all": {"controllers": ["host:ns1"], "guard": False}, "ns1": {"guard": True}},
    "rules that go": {"all": {"controllers": ["host:ns1"], "state": "absent"}, "ns1": {"state": "present"}},
    "a jump host that may": {"all": {ALLOW: SSH}, "web": {ARGS: "-J ns1"}},
    "a jump host to itself": {"ns1": {ARGS: "-J ns1"}},
    "a jump host outside": {"web": {ARGS: "-J bastion.example.org"}},
    "a jump host by an address outside": {"web": {ARGS: "-J 203.0.113.9"}},
    "a jump host without rules": {"web": {ARGS: "-J printer1"}},
    "a jump host with its guard off": {"web": {ARGS: "-J ns1"}, "ns1": {"guard": False}},
    "behind a jump host with the guard off": {"web": {ARGS: "-J ns1", "guard": False}},
    "the controller reaches what is behind a jump host by way of it": {
        "all": {
            "controllers": ["host:mail1"],
            ALLOW: SSH,
            "allow__mail1": [{"service": "ssh", "to": ["host:ns1"]}],
            ARGS: "-J ns1",
        },
        "ns1": {ARGS: ""},
    },
    "no jump after all": {"web": {"ansible_ssh_args": "-o ProxyJump=none", ARGS: "-J ns1"}},
    "arguments without a jump host": {"web": {ARGS: "-o 'unbalanced"}},
    "arguments of no shape": {"web": {ARGS: ["-J", "ns1"], "ansible_connection": None, "ansible_port": None}},
}


@pytest.mark.parametrize("variables", KEPT.values(), ids=KEPT)
def test_compiles_where_ansible_can_log_in(variables: Variables) -> None:
    assert compiled(variables)


def jump(arguments: str, **more: Any) -> Variables:
    return {"web1": {ARGS: arguments, **more}}


THROUGH = f'{ARGS} on host web1: "Ansible logs in through ns1" does not hold: ns1 → web1 (198.51.100.11) tcp port 22 is dropped by the default of output of host ns1, as no rule is about it. '
GRANT = "Grant it there with egress_firewall_allow__ns1: [{service: ssh, to: [host:web1]}], or set egress_firewall_guard: false for ns1 or web1"
FROM = '"Ansible logs in from ns1" does not hold: ns1 → mail1 (198.51.100.10) tcp port 22 is dropped by the default of output of host ns1'
# id: variables by host or group, words of the message in their order
CLOSED: dict[str, tuple[Variables, list[str]]] = {
    "told": (
        {"all": {"controllers": ["host:ns1"]}},
        [
            f"egress_firewall_controllers[0]: {FROM}",
            "and 3 more logins from there are denied",
            "[host:mail1, …]",
            "guard: false for ns1 or mail1",
        ],
    ),
    "told by its address": ({"all": {"controllers": "198.51.100.53"}}, [f"egress_firewall_controllers: {FROM}"]),
    "told by a network that it is in": (
        {"all": {"controllers": ["192.0.2.7", "2001:db8:1::50/124"]}},
        [f"egress_firewall_controllers[1]: {FROM}"],
    ),
    "told by a group": ({"all": {"controllers": ["group:web"]}}, ['[0]: "Ansible logs in from web1"']),
    "told by the name of a network": (
        {"all": {"controllers": ["resolvers"]}},
        [f"egress_firewall_controllers[0]: {FROM}"],
    ),
    "local": ({"ns1": {"ansible_connection": "local"}}, [f"ansible_connection on host ns1: {FROM}"]),
    "jump": (jump("-J admin@ns1"), [THROUGH + GRANT]),
    "jump, by an option": (
        jump("-C", ansible_ssh_extra_args="-oProxyJump=ns1"),
        ["ansible_ssh_extra_args on host web1: "],
    ),
    "jump, by a command": (jump("-o ProxyCommand='ssh -W %h:%p ns1'"), [THROUGH]),
    "jump, by the first that is said": (
        jump("-J mail1", ansible_ssh_args="-J ns1"),
        ["ansible_ssh_args on host web1: "],
    ),
    "jump, by its address": (jump("-J 198.51.100.53"), [THROUGH]),
    "jump, by its other address": (jump("-J root@[2001:db8:1::53]:22"), [THROUGH]),
    "jump, by the name that Ansible connects to": (
        {**jump("-J bastion.example.org"), "ns1": {"ansible_host": "bastion.example.org"}},
        [THROUGH],
    ),
    "several hops, the first": (
        {
            "all": {"controllers": ["host:mail1"]},
            "web1": {ARGS: "-J ns1,db1"},
            "web2": {"guard": False},
            "db1": {"guard": False},
        },
        ['"Ansible logs in from mail1" does not hold: mail1 → ns1'],
    ),
    "several hops, one in between": (jump("-J ns1,db1"), ['"Ansible logs in through ns1" does not hold: ns1 → db1']),
    "several hops, the last": (
        {"all": {ALLOW: SSH}, **jump("-J ns1,db1")},
        ['"Ansible logs in through db1" does not hold: db1 → web1'],
    ),
    "to a jump host outside": (
        {
            "all": {"guard": False, "controllers": ["host:ns1"]},
            "ns1": {"guard": True},
            **jump("-J 203.0.113.9:2222", guard=True),
        },
        [
            "ns1 → 203.0.113.9",
            "tcp port 2222",
            "service: {protocol: tcp, ports: [2222]}, to: [203.0.113.9]",
            "guard: false for ns1",
        ],
    ),
    "the place is that of whom it is about": (
        {"all": {ALLOW: [{"service": "ssh", "to": "host:web1"}]}, "web": {ARGS: "-J ns1"}},
        [f'{ARGS} on host web2: "Ansible logs in through ns1" does not hold: ns1 → web2'],
    ),
    "port": (
        {"all": {"controllers": ["host:ns1"], "ansible_port": 2222, ALLOW: SSH}},
        ["tcp port 2222 is dropped", "[{service: {protocol: tcp, ports: [2222]}, to: [host:mail1, …]}]"],
    ),
    "port of a jump host, which the inventory knows": (
        {
            "all": {"controllers": ["host:mail1"], "guard": False},
            "mail1": {"guard": True},
            "web1": {"guard": True, ARGS: "-J ns1"},
            "ns1": {"ansible_port": 2022, "guard": True},
        },
        ["mail1 → ns1 (198.51.100.53) tcp port 2022"],
    ),
    "only the other address": (
        {
            "all": {"controllers": ["host:ns1"], ALLOW: [{"service": "ssh", "to": "198.51.100.0/26"}]},
            "web2": {"ansible_host": "203.0.113.12"},
        },
        ["ns1 → web2 (203.0.113.12)", "to: [203.0.113.12]"],
    ),
    "one of its addresses, and nobody knows at which it is logged in to": (
        {
            "all": {"controllers": ["host:ns1"], ALLOW: [{"service": "ssh", "to": "198.51.100.0/26"}]},
            "web2": {"addresses": ["198.51.100.12", "198.51.100.64"]},
        },
        ["ns1 → web2 (198.51.100.64)"],
    ),
    "a part of its network": (
        {
            "all": {
                "controllers": ["host:ns1"],
                ALLOW: [{"service": "ssh", "to": ["198.51.100.0/26", "203.0.113.0/28"]}],
            },
            "web2": {"addresses": ["203.0.113.0/27"]},
        },
        ["ns1 → web2 (203.0.113.16)"],
    ),
    "IPv6 alone": (
        {
            "all": {"controllers": ["host:ns1"], ALLOW: [{"service": "ssh", "to": "0.0.0.0/0"}]},
            "web1": {"addresses": ["2001:db8:1::11"]},
        },
        ["ns1 → web1 (2001:db8:1::11) tcp port 22"],
    ),
    "forbidden": (
        {"all": {"controllers": ["host:ns1"], ALLOW: SSH, "forbid__ns1": [{"service": "ssh", "to": "host:db1"}]}},
        [
            "ns1 → db1",
            "by the rule 'forbid/ns1/ssh' in output of host ns1, from the forbid 'ns1/ssh'",
            "Take it out of what stops it and grant it there with",
        ],
    ),
    "what lets it pass expires": (
        {"all": {"controllers": ["host:ns1"], ALLOW: [{**SSH[0], "expires": UNTIL}]}},
        ["dropped by the default of output of host ns1, as no rule is about it, once what lets it pass has expired"],
    ),
    "the loopback's grant is for nobody else": (
        {"all": {"controllers": ["host:ns1"], ALLOW: [{**SSH[0], "interface": "lo"}]}},
        [FROM],
    ),
    "a port that is none": (
        {"all": {"controllers": ["192.0.2.7"]}, "web2": {"ansible_port": 0}},
        ["ansible_port on host web2: a number stands where a number belongs. Write one from 1 to 65535"],
    ),
    "closed, and nothing accepts it": (
        {"all": {"controllers": ["192.0.2.7", "2001:db8:9::7"]}, "web": {"input": "closed"}},
        [
            "192.0.2.7 → web1 (198.51.100.11) tcp port 22 is dropped by the default of input of host web1",
            "and 1 more logins from there are denied",
            "Accept it there with egress_firewall_accept__web1: [{service: ssh, from: [192.0.2.7]}], or set",
        ],
    ),
    "closed, and accepted from elsewhere": (
        {
            "all": {"controllers": ["192.0.2.7"], "accept__web": [{"service": "ssh", "from": "192.0.2.8"}]},
            "web1": {"input": "closed", "ansible_port": 2222},
        },
        ["tcp port 2222 is dropped", "[{service: {protocol: tcp, ports: [2222]}, from: [192.0.2.7]}]"],
    ),
    "closed, to a managed controller": (
        {"all": {"controllers": ["host:ns1"], ALLOW: SSH}, "web1": {"input": "closed"}},
        ["ns1 → web1", "by the default of input", "from: [host:ns1]}], or set", "guard: false for ns1 or web1"],
    ),
    "closed, to a jump host": (
        {"all": {ALLOW: SSH}, **jump("-J ns1"), "web1": {**jump("-J ns1")["web1"], "input": "closed"}},
        ['"Ansible logs in through ns1" does not hold: ns1 → web1', "accept__web1: [{service: ssh, from: [host:ns1]}]"],
    ),
    "closed, and what accepts it expires": (
        {
            "all": {
                "controllers": ["192.0.2.7"],
                "accept__web": [{"service": "ssh", "from": "any", "expires": UNTIL}],
            },
            "web1": {"input": "closed"},
        },
        ["dropped by the default of input of host web1, as no rule is about it, once what lets it pass has expired"],
    ),
}


@pytest.mark.parametrize(("variables", "words"), CLOSED.values(), ids=CLOSED)
def test_refused_where_ansible_could_not_log_in(variables: Variables, words: list[str]) -> None:
    message, at = str(refused(variables)), 0
    for word in words:
        assert word in message[at:], message
        at = message.index(word, at)


def test_the_machine_that_compiles_is_known_by_its_address() -> None:
    for address in ("198.51.100.53", "2001:db8:1::53"):
        error = refused({}, "127.0.0.1", "192.0.2.99", address)
        assert str(error).startswith(f"egress_firewall_addresses on host ns1: {FROM}")
    assert compiled({"all": {ALLOW: SSH}}, "198.51.100.53")
    assert compiled({"ns1": {"guard": False}}, "198.51.100.53")


def test_one_that_is_told_and_found_is_one() -> None:
    error = refused({"all": {"controllers": ["host:ns1"]}, "ns1": {"ansible_connection": "local"}}, "198.51.100.53")
    assert error.where == "egress_firewall_controllers[0]"


def test_all_that_may_not_log_in_are_found_not_only_the_first_with_the_same_rules() -> None:
    grants = [{"service": "ssh", "to": ["host:mail1", "host:db1", "host:ns1", "host:web2"]}]
    assert "web2 → web1" in str(refused({"all": {"controllers": ["group:web"], "allow__web": grants}}))


def test_controllers_with_other_rules_are_looked_at_by_themselves() -> None:
    assert "db1 → mail1" in str(refused({"all": {"controllers": ["host:ns1", "host:db1"], ALLOW: SSH}}))


def test_jumps_and_controllers_with_the_same_rules_have_each_their_own_receivers() -> None:
    variables: Variables = {
        "all": {"guard": False, "controllers": ["host:web1"], "allow__web": [{"service": "ssh", "to": "host:web2"}]},
        "web": {"guard": True},
        "web2": {"addresses": ["198.51.100.12", "2001:db8:1::12"]},
        "db1": {"guard": True, ARGS: "-J web2"},
    }
    assert "web2 → db1" in str(refused(variables))


def test_each_port_is_looked_at_by_itself() -> None:
    variables: Variables = {"all": {"controllers": ["host:ns1"], ALLOW: SSH}, "web2": {"ansible_port": 2222}}
    assert "ns1 → web2 (198.51.100.12) tcp port 2222" in str(refused(variables))


def test_the_guard_is_not_to_be_set_where_there_is_none() -> None:
    variables: Variables = {
        "all": {"guard": False, "controllers": ["host:ns1"]},
        "ns1": {"guard": True},
        "printer1": {"guard": True, "addresses": ["203.0.113.77"]},
        "web1": {"guard": True, ARGS: "-J printer1"},
    }
    assert refused(variables).mend.endswith("guard: false for ns1")


# Which controllers are let in where only 192.0.2.0/25 is, and which of their addresses is not.
INPUT: list[tuple[list[str], str]] = [
    (["192.0.2.7"], ""),
    (["192.0.2.0/25"], ""),
    (["192.0.2.200"], "192.0.2.200"),
    (["192.0.2.0/24"], "192.0.2.0/24"),
    (["192.0.2.7", "192.0.2.200"], "192.0.2.200"),
]


@pytest.mark.parametrize(("controllers", "expected"), INPUT, ids=str)
def test_what_comes_in_is_looked_at_where_it_arrives(controllers: list[str], expected: str) -> None:
    hostvars = site()
    for variables in hostvars.values():
        variables["egress_firewall_controllers"] = controllers
    inventory = Inventory(hostvars, {"all": list(HOSTS), **GROUPS})
    ruled = rule(inventory, NOW)
    accept = {"name": "let-in", "chain": "input", "action": "accept", "source": ["192.0.2.0/25"]}
    let_in = decode([{**accept, "destination_type": "local"}], {"input": {"default": "drop"}})
    ways = find_ways(inventory, ruled.fleet)
    rulesets = {**ruled.rulesets, "web1": let_in}
    if not expected:
        check_ways(ways, ruled.fleet, ruled.policies, rulesets)
        return
    with pytest.raises(PolicyError) as caught:
        check_ways(ways, ruled.fleet, ruled.policies, rulesets)
    assert f"{expected} → web1 (198.51.100.11) tcp port 22 is dropped by the default of input" in caught.value.what
    accept = f"egress_firewall_accept__web1: [{{service: ssh, from: [{expected}]}}]"
    off = "or set egress_firewall_guard: false for web1"
    assert caught.value.mend == f"Accept it there with {accept}, {off}"


def test_the_report_tells_the_guard() -> None:
    found = compiled({"web1": {"guard": False}})
    assert [found[host]["settings"]["guard"] for host in ("web1", "web2")] == [False, True]
