# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""Routers: what an inventory says about them, who is behind them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import GROUPS as ALL_GROUPS
from unit.plugin_utils.sites import HOSTS, changed, site

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.plugin_utils._explain import explain
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory

GROUPS = {"router": ["ns1"]}
BETWEEN = {"inside": {"eth1": ["198.51.100.0/24", "2001:db8:1::/64"]}, "outside": ["eth0"]}
POOL = {"egress_firewall_addresses": ["198.51.100.0/26"], "egress_firewall_managed": False}


def compiled(router: Any = None, more: dict[str, Any] | None = None, groups: dict[str, list[str]] | None = None) -> Any:
    """Return the policy of a router, on which all the variables in ``more`` are set for the hosts that they name."""
    values: dict[str, Any] = {"egress_firewall_router": BETWEEN if router is None else router}
    return changed("ns1", values, groups or GROUPS, more)["ns1"]


def rule(policy: dict[str, Any], name: str, chain: str = "forward") -> dict[str, Any]:
    (found,) = [rule for rule in policy["rules"] if (rule["name"], rule["chain"]) == (name, chain)]
    return dict(found)


# variable in YAML | place | what is wrong | mend
ERRORS = """
~ | router | nothing (null) stands where a mapping belongs | {inside: {eth1:
{inside: {eth1: [198.51.100.0/24]}} | router | the router has no 'outside' | {inside: {eth1:
{outside: [eth0]} | router | the router has no 'inside' | {inside: {eth1:
{inside: {}, outside: [eth0]} | router.inside | it names no interface | {eth1:
{inside: [eth1], outside: [eth0]} | router.inside | a list stands where a mapping belongs | {eth1:
{inside: {eth1: []}, outside: []} | router.inside.eth1 | an empty list | nothing never means all
{inside: {eth1: {}}, outside: []} | router.inside.eth1 | the interface has no 'prefixes' | {eth1:
{inside: {eth1: [web1]}, outside: []} | router.inside.eth1 | is not an address or CIDR | Write
{inside: {eth1: [198.51.100.1/24]}, outside: []} | router.inside.eth1 | has bits set behind its prefix | 198.51.100.0/24
{inside: {eth1: [0.0.0.0/0]}, outside: []} | router.inside.eth1 | loopback, multicast or unspecified addresses | [198.51.100.0/24
{inside: {eth1: {prefixes: [198.51.100.0/24], reverse_path: strikt}}, outside: []} | router.inside.eth1.reverse_path | 'strikt' is not possible here | Did you mean 'strict'?
{inside: {eth1: {prefix: [198.51.100.0/24]}}, outside: []} | router.inside.eth1 | unknown key 'prefix' | Did you mean 'prefixes'?
{inside: {lo: [198.51.100.0/24]}, outside: []} | router.inside | 'lo' is the loopback | other interfaces
{inside: {'eth 1': [198.51.100.0/24]}, outside: []} | router.inside | is not the name of an interface | Write
{inside: {eth1: [198.51.100.0/24]}, outside: [eth1]} | router | eth1 is both inside and outside | Name it once
{inside: {eth1: [198.51.100.0/24]}, outside: [[eth0]]} | router.outside | is not | Write
{inside: {eth1: [198.51.100.0/24]}, outside: {eth0: {special: [10.0.0.0/8]}}} | router.outside.eth0 | unknown key 'special' | Did you mean 'special_use'?
{inside: {eth1: [198.51.100.0/24]}, outside: {eth0: {special_use: [nowhere]}}} | router.outside.eth0.special_use[0] | unknown network 'nowhere' | Networks of your own
{inside: {eth1: [198.51.100.0/24]}, outside: {eth0: {special_use: []}}} | router.outside.eth0.special_use | an empty list | nothing never means all
{inside: {eth1: [198.51.100.0/24]}, outside: [eth0], inbound: open} | router.inbound | 'open' is not possible here | Write guard or closed
{inside: {eth1: [198.51.100.0/24]}, outside: [eth0], behind: [relays]} | router.behind[0] | 'relays' names no hosts of the inventory | group:web
{inside: {eth1: [198.51.100.0/24]}, outside: [eth0], behind: [group:nobodyy]} | router.behind[0] | unknown group 'nobodyy' | Did you mean 'nobody'?
{inside: {eth1: [192.0.2.0/24]}, outside: [], behind: [group:web]} | router.behind | host web1 has no address in the prefixes of 'inside' | Take it out
{inside: {eth1: [198.51.100.0/28]}, outside: [eth0]} | router | its own address 198.51.100.53 is in none of the prefixes inside, and for special use outside | 'special_use'
"""


@pytest.mark.parametrize("line", ERRORS.strip().splitlines())
def test_what_is_wrong_with_it_is_told_with_place_and_mend(line: str) -> None:
    value, place, what, mend = (cell.strip() for cell in line.split(" | "))
    with pytest.raises(PolicyError) as caught:
        changed("ns1", {"egress_firewall_router": yaml.safe_load(value)}, GROUPS)
    error = caught.value
    expected = f"egress_firewall_{place} on host ns1"
    assert (error.where, what in error.what, mend in error.mend) == (expected, True, True), str(error)


def test_a_router_about_which_nothing_is_said_would_be_an_open_border() -> None:
    with pytest.raises(PolicyError, match="egress_firewall_router on host ns1: the host has the profile router, and"):
        changed("ns1", {}, GROUPS)
    left = changed("ns1", {"egress_firewall_router": {}}, GROUPS)["ns1"]
    assert "forward" not in left["chains"]


@pytest.mark.parametrize("settings", [{"managed": False}, {"state": "absent"}])
def test_who_has_no_rules_of_ours_needs_none(settings: dict[str, Any]) -> None:
    changed("ns1", {f"egress_firewall_{name}": value for name, value in settings.items()}, GROUPS)


def test_who_is_no_router_forwards_nothing() -> None:
    with pytest.raises(PolicyError, match="egress_firewall_router on host ns1: the host does not have the profile"):
        changed("ns1", {"egress_firewall_router": BETWEEN}, {"router": []})


def test_all_who_have_an_address_inside_are_behind() -> None:
    """But the router itself, whose own packets are not forwarded."""
    table = rule(compiled(), "always/outbound")["dispatch"]["source"]
    assert set(table) == {
        *("198.51.100.10/32", "2001:db8:1::10/128", "198.51.100.11/32", "2001:db8:1::11/128", "198.51.100.12/32"),
        *("198.51.100.13/32", "2001:db8:1::13/128"),
    }
    one = compiled({**BETWEEN, "behind": "host:web1"})
    assert set(rule(one, "always/outbound")["dispatch"]["source"].values()) == {"from_web1"}


def test_a_pool_has_what_no_host_in_it_has() -> None:
    policy = compiled(more={"printer1": POOL})
    table = rule(policy, "always/outbound")["dispatch"]["source"]
    assert table["198.51.100.0/29"] == table["198.51.100.14/31"] == "from_printer1"
    assert table["198.51.100.10/32"] == "from_mail1"


@pytest.mark.parametrize("addresses", [["198.51.100.10"], ["198.51.100.8/30", "2001:db8:1::10"]])
def test_an_address_belongs_to_one_policy(addresses: list[str]) -> None:
    twice = {"egress_firewall_addresses": addresses, "egress_firewall_managed": False}
    with pytest.raises(PolicyError, match=r"(::10|\.10) is an address of host"):
        compiled(more={"printer1": twice})


def test_hosts_of_one_policy_may_share_an_address() -> None:
    shared = {"egress_firewall_addresses": ["198.51.100.11", "198.51.100.99"]}
    groups = {**GROUPS, "web": ["web1", "web2"], "app-x": [], "app_x": [], "web-eu": []}
    table = rule(compiled(more={"web1": shared, "web2": shared}, groups=groups), "always/outbound")["dispatch"]
    assert table["source"]["198.51.100.99/32"] == "from_web"


def test_what_the_internet_never_has_is_not_met_outside() -> None:
    sources = rule(compiled(), "spoofed/special-use/eth0", "prerouting")["source"]
    assert {"10.0.0.0/8", "192.0.2.0/24", "224.0.0.0/3"} <= set(sources)
    declared = compiled({**BETWEEN, "outside": {"eth0": {"special_use": ["10.0.0.0/8"]}}})
    assert "10.0.0.0/8" not in rule(declared, "spoofed/special-use/eth0", "prerouting")["source"]


def test_a_bound_for_each_destination_is_each_hosts_own() -> None:
    limit = {"rate": "1/second", "per": "destination"}
    grant = {"egress_firewall_allow__web": [{"service": "ssh", "to": "any", "limit": limit}]}
    groups = {**GROUPS, "app-x": [], "app_x": [], "web-eu": []}
    policy = compiled(more={"web1": grant, "web2": grant}, groups=groups)
    assert set(rule(policy, "always/outbound")["dispatch"]["source"].values()) >= {"from_web1", "from_web2"}


# What the inventory says beside the router, asserted about packets that cross it or do not.
ASSERTED = """
{from: host:printer1, to: internet, service: smtp, expect: denied} | {} | {}
{from: host:printer1, to: 203.0.113.25, service: smtp, expect: allowed} | {printer1: {allow__printer1: [{service: smtp, to: 203.0.113.25}]}} | {special_use: [203.0.113.0/24]}
{from: host:printer1, to: 203.0.113.25, service: smtp, expect: allowed} | {printer1: {allow__printer1: [{service: smtp, to: 203.0.113.25}]}} | {}
{from: host:printer1, to: internet, service: smtp, expect: denied} | {printer1: {allow__printer1: [{service: smtp, to: any}]}} | {}
{from: 192.88.99.7, to: host:printer1, service: ipp, expect: denied} | {} | {inbound: closed}
{from: 192.88.99.7, to: host:printer1, service: ipp, expect: denied} | {} | {}
{from: 192.88.99.7, to: host:printer1, service: ipp, expect: allowed} | {} | {}
{from: 192.88.99.7, to: host:printer1, service: ipp, expect: allowed} | {} | {inbound: closed}
{from: host:printer1, to: host:web1, service: ssh, expect: denied} | {} | {}
"""
# For each of them, what breaks it; nothing where it is proven.
BREAKS = [
    "",
    "",
    "dropped by the rule 'always/special-use' in special_use of host ns1",
    "accepted, as the host that sends it has no rules of ours",
    "",
    "accepted by the rule 'always/inbound' in forward of host ns1",
    "",
    "dropped by the default of forward of host ns1",
    "accepted, as the host that sends it has no rules of ours",  # on one segment, which the router never sees
]


@pytest.mark.parametrize(("line", "breaks"), list(zip(ASSERTED.strip().splitlines(), BREAKS, strict=True)))
def test_what_is_asserted_holds_on_the_whole_way(line: str, breaks: str) -> None:
    assertion, more, options = (yaml.safe_load(cell) for cell in line.split(" | "))
    outside = {"eth0": {"special_use": options.pop("special_use")}} if "special_use" in options else ["eth0"]
    printer = {"addresses": ["198.51.100.40"], "managed": False, **more.get("printer1", {})}
    variables = {f"egress_firewall_{name}": value for name, value in printer.items()}
    router = {**BETWEEN, "outside": outside, **options}
    asserted = {"egress_firewall_assertions": [assertion], "egress_firewall_router": router}
    everybody = {host: {"egress_firewall_assertions": [assertion]} for host in ("mail1", "web1", "web2", "db1")}
    everybody["printer1"] = {**variables, "egress_firewall_assertions": [assertion]}
    if not breaks:
        changed("ns1", asserted, GROUPS, everybody)
        return
    with pytest.raises(PolicyError) as caught:
        changed("ns1", asserted, GROUPS, everybody)
    assert breaks in caught.value.what


# who logs in | what the router says beside its prefixes | what is wrong, and what mends it (nothing: all is well)
LOGINS = """
192.88.99.7 | {} | |
192.88.99.7 | {inbound: closed} | dropped by the default of forward of host ns1 | accept__mail1: [{service: ssh, from: [192.88.99.7]}]
198.51.100.200 | {} | |
2001:db8:1::200 | {} | |
"""


@pytest.mark.parametrize("line", LOGINS.strip().splitlines())
def test_ansible_must_be_able_to_log_in_past_routers(line: str) -> None:
    controller, options, what, mend = (cell.strip() for cell in line.split("|"))
    told = {"egress_firewall_controllers": [controller]}
    router = {"egress_firewall_router": {**BETWEEN, **yaml.safe_load(options)}, **told}
    more = dict.fromkeys(("mail1", "web1", "web2", "db1", "printer1"), told)
    if not what:
        changed("ns1", router, GROUPS, more)
        return
    with pytest.raises(PolicyError) as caught:
        changed("ns1", router, GROUPS, more)
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_a_controller_in_another_segment_is_held_like_everybody() -> None:
    """Who is behind a router and not in the inventory says nothing beyond its segment, logins included."""
    inside = {"eth1": ["198.51.100.0/25", "2001:db8:1::/64"], "eth2": ["198.51.100.128/25"]}
    told = {"egress_firewall_controllers": ["198.51.100.200"]}
    router = {"egress_firewall_router": {"inside": inside, "outside": ["eth0"]}, **told}
    more = {host: dict(told) for host in ("mail1", "web1", "web2", "db1", "printer1")}
    with pytest.raises(PolicyError, match=r"always/unknown-source.*Put 198\.51\.100\.200.* into the inventory"):
        changed("ns1", router, GROUPS, more)
    more["printer1"] |= {"egress_firewall_addresses": ["198.51.100.200"], "egress_firewall_managed": False}
    with pytest.raises(PolicyError, match=r"always/default.*egress_firewall_allow__printer1: \[\{service: ssh, to: "):
        changed("ns1", router, GROUPS, more)
    more["printer1"]["egress_firewall_allow__printer1"] = [{"service": "ssh", "to": "any"}]
    changed("ns1", router, GROUPS, more)


def test_what_becomes_of_hosts_without_rules_is_explained_by_their_router() -> None:
    hostvars = site()
    hostvars["ns1"]["egress_firewall_router"] = BETWEEN
    hostvars["printer1"] |= {"egress_firewall_addresses": ["198.51.100.40"]}
    inventory = Inventory(hostvars, {"all": list(HOSTS), **ALL_GROUPS, **GROUPS})
    found = explain(inventory, "printer1", "192.88.99.7", "smtp")
    assert (found["verdict"], [reason["level"] for reason in found["reasons"]]) == ("denied", ["host", "border"])
    assert "dropped by the rule 'always/default' in from_printer1 of host ns1" in found["text"]
    assert found["remedies"][0] == "egress_firewall_allow__printer1:"
    near = explain(inventory, "printer1", "web1", "ssh")
    assert (near["verdict"], [reason["level"] for reason in near["reasons"]]) == ("allowed", ["host"])
    assert "No router sees it" in near["text"]


def test_what_stays_outside_crosses_no_router_whatever_its_uplinks() -> None:
    """Two hosts outside are on no side of their own of a router that has two interfaces there."""
    told = {"egress_firewall_controllers": ["192.88.99.7"]}
    more = {host: dict(told) for host in ("mail1", "web1", "web2", "db1", "printer1")}
    more["mail1"] |= {"egress_firewall_addresses": ["192.88.99.10"]}
    router = {"inside": {"eth1": BETWEEN["inside"]["eth1"]}, "outside": ["eth0", "eth2"], "inbound": "closed"}
    guarded = {host: {**values, "egress_firewall_guard": host == "mail1"} for host, values in more.items()}
    changed("ns1", {"egress_firewall_router": router, "egress_firewall_guard": False, **told}, GROUPS, guarded)
