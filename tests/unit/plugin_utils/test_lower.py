# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""Policies as rules: order, names and options."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import GROUPS, HOSTS, NOW, changed, site

from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._report import policies

ALWAYS = [
    "always/loopback",
    "always/unspecified-source",
    "always/spoofed-source",
    "always/established",
    "always/related-icmp",
    "always/related-icmpv6",
    "always/invalid",
    "always/neighbour-discovery",
    "always/mld",
    "always/igmp",
]
ECHO = ["always/echo-request/icmp", "always/echo-request/icmpv6"]
INPUT = ["always/loopback", "always/spoofed-source", "always/loopback-destination", "always/invalid", "always/no-syn"]


def compiled(host: str, variables: dict[str, Any]) -> dict[str, Any]:
    policy: dict[str, Any] = changed("all", {f"egress_firewall_{k}": v for k, v in variables.items()})[host]
    return policy


def names(policy: dict[str, Any], chain: str) -> list[str]:
    return [rule["name"] for rule in policy["rules"] if rule["chain"] == chain]


def test_order_of_a_mail_server() -> None:
    policy = compiled("mail1", {})
    forbids = ["forbid/mail/ftp", "forbid/mail/dns/udp", "forbid/mail/dns/tcp"]
    grants = ["mail/smtp", "mail/submission", "mail/smtps"]
    assert names(policy, "output") == [*ALWAYS, *forbids, *ECHO, *grants, "always/log"]
    assert names(policy, "input") == INPUT
    assert policy["chains"] == {
        "output": {"default": "drop"},
        "input": {"default": "accept"},
        "forward": {"default": "drop"},
    }


# settings: the defaults of the chains, and the action of forbids
CHAINS: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"default_verdict": "reject"}, {"output": "reject", "input": "accept", "forward": "drop"}, "reject"),
    ({"input": "off"}, {"output": "drop", "forward": "drop"}, "drop"),
    ({"input": False}, {"output": "drop", "forward": "drop"}, "drop"),
    (
        {"profiles": {"router": {"groups": ["mail"], "forbids": []}}, "router": {}},
        {"output": "drop", "input": "accept"},
        "drop",
    ),
]


@pytest.mark.parametrize(("settings", "chains", "action"), CHAINS)
def test_chains(settings: dict[str, Any], chains: dict[str, str], action: str) -> None:
    policy = compiled("mail1", settings)
    assert {name: chain["default"] for name, chain in policy["chains"].items()} == chains
    assert {rule["action"] for rule in policy["rules"] if rule["name"].startswith("forbid/")} == {action}
    assert policy["router"] is ("forward" not in chains)


# grant in YAML | rules in YAML, without name, chain and action
GRANTS = r"""
{service: ssh, to: any} | [{protocol: tcp, destination_ports: ['22']}]
{service: ssh, to: 0.0.0.0/0} | [{family: ipv4, protocol: tcp, destination_ports: ['22']}]
{service: ssh, to: ['0.0.0.0/0', '2001:db8::/32']} | [{destination: [0.0.0.0/0, '2001:db8::/32'], protocol: tcp, destination_ports: ['22']}]
{service: ssh, to: relays} | [{family: ipv4, destination: [203.0.113.25/32], protocol: tcp, destination_ports: ['22']}]
{service: any, to: relays} | [{family: ipv4, destination: [203.0.113.25/32]}]
{service: ipsec, to: any} | [{protocol: udp, destination_ports: ['500', '4500']}, {protocol: esp}]
{service: ping, to: relays} | [{family: ipv4, destination: [203.0.113.25/32], protocol: icmp, icmp_type: [echo-request]}]
{service: odd, to: any} | [{family: ipv6, protocol: icmpv6, icmp_type: ['200']}, {protocol: '99'}, {protocol: tcp, source_ports: ['1-2']}]
{service: ssh, to: any, user: [root, 1000], group: wheel} | [{protocol: tcp, destination_ports: ['22'], uid_owner: ['1000', root], gid_owner: [wheel]}]
{service: ssh, to: any, interface: eth0} | [{protocol: tcp, destination_ports: ['22'], out_interface: [eth0]}]
{service: ssh, to: any, limit: 5/minute} | [{protocol: tcp, destination_ports: ['22'], limit: {rate: 5/minute, per: none, mode: under}}]
{service: ssh, to: any, limit: {rate: 5/minute, burst: 9, per: destination}} | [{protocol: tcp, destination_ports: ['22'], limit: {rate: 5/minute, burst: 9, per: destination, mode: under}}]
{service: ssh, to: any, expires: 2027-01-31T02:00:00+02:00} | [{protocol: tcp, destination_ports: ['22'], expires: '2027-01-31T00:00:00Z'}]
{service: ssh, to: any, expires: '2027-01-31T00:00:00Z', reason: ticket 4711} | [{protocol: tcp, destination_ports: ['22'], expires: '2027-01-31T00:00:00Z'}]
"""
ODD = [{"protocol": "icmpv6", "icmp_types": [200]}, {"protocol": 99}, {"protocol": "tcp", "source_ports": ["1-2"]}]


@pytest.mark.parametrize("line", GRANTS.strip().splitlines())
def test_options_of_a_grant(line: str) -> None:
    grant, expected = map(yaml.safe_load, line.split(" | "))
    policy = compiled("ns1", {"services": {"odd": ODD}, "allow__ns1": [grant]})
    found = [rule for rule in policy["rules"] if rule["name"].startswith("ns1/")]
    assert [{k: v for k, v in rule.items() if k not in ("name", "chain", "action")} for rule in found] == [
        {"family": "ipv4", **e} if e.get("protocol") == "icmp" else e for e in expected
    ]


def test_dhcp_opens_the_unspecified_source_on_its_interfaces_only() -> None:
    grants = [{"service": "dhcp", "to": "any", "interface": name} for name in ("eth1", "eth0")]
    rules = {rule["name"]: rule for rule in compiled("ns1", {"allow__ns1": grants})["rules"]}
    opened = rules["always/unspecified-source-dhcp"]
    assert (opened["source"], opened["out_interface"]) == (["0.0.0.0/32"], ["eth0", "eth1"])
    assert rules["ns1/dhcp/any/udp/2"]["family"] == "ipv6"


def test_groups_with_reserved_names_cannot_pose_as_ours() -> None:
    groups = {"accept": ["ns1"], "palisade": ["ns1"], "always": ["ns1"], "forbid": ["ns1"]}
    variables = {f"egress_firewall_allow__{name}": [{"service": "ssh", "to": "any"}] for name in groups}
    found = [rule["name"] for rule in changed("all", variables, groups)["ns1"]["rules"]]
    expected = ["grant/accept/ssh", "grant/always/ssh", "grant/forbid/ssh", "grant/palisade/ssh"]
    assert [name for name in found if "ssh" in name] == expected


CLOSED = [
    *INPUT,
    "always/established",
    "always/related-icmp",
    "always/related-icmpv6",
    "always/neighbour-discovery",
    "always/mld",
    "always/igmp",
    "always/icmp",
    "always/icmpv6",
]


@pytest.mark.parametrize("verdict", ["drop", "reject"])
def test_closed_input(verdict: str) -> None:
    accepts = [{"service": "dns", "from": "any"}, {"service": "ssh", "from": "host:db1"}]
    policy = compiled("ns1", {"input": "closed", "default_verdict": verdict, "accept__ns1": accepts})
    accepted = ["accept/ns1/dns/udp", "accept/ns1/dns/tcp", "accept/ns1/ssh"]
    assert names(policy, "input") == [*CLOSED, *accepted]
    assert policy["chains"]["input"]["default"] == verdict


# The reset with which input refuses leaves by output.
@pytest.mark.parametrize(
    ("settings", "leaves"),
    [
        ({"input": "closed"}, True),
        ({"input": "closed", "default_verdict": "drop"}, False),
        ({"input": "closed", "reject_with": "icmp-net-unreachable"}, False),
        ({"input": "closed", "mode": "audit"}, False),
        ({"input": "guard"}, False),
    ],
)
def test_resets_leave_where_closed_input_gives_them(settings: dict[str, Any], leaves: bool) -> None:
    policy = compiled("ns1", {"default_verdict": "reject", "reject_with": "tcp-reset", **settings})
    assert ("always/related-reset" in names(policy, "output")) is leaves


# accept in YAML | rules in YAML, without name, chain and action
ACCEPTS = r"""
{service: ssh, from: any} | [{protocol: tcp, destination_ports: ['22']}]
{service: ssh, from: '::/0'} | [{family: ipv6, protocol: tcp, destination_ports: ['22']}]
{service: ssh, from: group:web} | [{source: [198.51.100.11/32, 198.51.100.12/32, '2001:db8:1::11/128'], protocol: tcp, destination_ports: ['22']}]
{service: ssh, from: relays, interface: eth0} | [{family: ipv4, source: [203.0.113.25/32], protocol: tcp, destination_ports: ['22'], in_interface: [eth0]}]
{service: ssh, from: any, limit: {rate: 5/minute, per: source}} | [{protocol: tcp, destination_ports: ['22'], limit: {rate: 5/minute, per: source, mode: under}}]
{service: ssh, from: any, expires: '2027-01-31T00:00:00Z', reason: r} | [{protocol: tcp, destination_ports: ['22'], expires: '2027-01-31T00:00:00Z'}]
{service: ssh, from: any, expires: '2026-01-31T00:00:00Z'} | []
{service: any, from: relays} | [{family: ipv4, source: [203.0.113.25/32]}]
{service: dhcp, from: any, interface: eth0} | [{family: ipv4, protocol: udp, source_ports: ['68'], destination_ports: ['67'], in_interface: [eth0]}, {family: ipv6, protocol: udp, source_ports: ['546'], destination_ports: ['547'], in_interface: [eth0]}]
"""


@pytest.mark.parametrize("line", ACCEPTS.strip().splitlines())
def test_options_of_an_accept(line: str) -> None:
    accept, expected = map(yaml.safe_load, line.split(" | "))
    policy = compiled("ns1", {"input": "closed", "accept__ns1": [accept]})
    found = [rule for rule in policy["rules"] if rule["name"].startswith("accept/ns1/")]
    assert {(rule["chain"], rule["action"]) for rule in found} <= {("input", "accept")}
    assert [{k: v for k, v in rule.items() if k not in ("name", "chain", "action")} for rule in found] == expected


def test_dhcp_servers_may_answer_where_dhcp_is_granted() -> None:
    until = "2027-01-31T00:00:00Z"
    grants = [
        {"service": "dhcp", "to": "any", "interface": "eth0"},
        {"service": "dhcp", "to": "0.0.0.0/0", "interface": "eth1", "expires": until},
        {"service": {"protocol": "udp", "ports": [67], "source_ports": [68]}, "to": "any"},
    ]
    policy = compiled("ns1", {"input": "closed", "allow__ns1": grants})
    found = {rule["name"]: rule for rule in policy["rules"] if rule["name"].startswith("always/dhcp")}
    assert {name: rule["in_interface"] for name, rule in found.items()} == {
        "always/dhcp-ipv4": ["eth0"],
        f"always/dhcp-ipv4/{until}": ["eth1"],
        "always/dhcp-ipv6": ["eth0"],
    }
    assert (found["always/dhcp-ipv6"]["source_ports"], found["always/dhcp-ipv6"]["destination_ports"]) == (
        ["547"],
        ["546"],
    )
    assert found[f"always/dhcp-ipv4/{until}"]["expires"] == until


def test_what_an_accept_let_begin_ends_with_it() -> None:
    until, later = "2027-01-31T00:00:00Z", "2028-01-31T00:00:00Z"
    accepts = [
        {"service": "ssh", "from": "relays", "expires": later},
        {"service": "ssh", "from": "any", "expires": until},
        {"service": "ntp", "from": "any", "expires": until},
        {"service": "http", "from": "any", "expires": until},
        {"service": "http", "from": "any", "limit": "1/day"},
    ]
    policy = compiled("ns1", {"input": "closed", "accept__ns1": accepts})
    ending = {rule["name"]: rule for rule in policy["rules"] if rule["name"].startswith(("until/", "after/"))}
    assert {name: rule.get("target", rule["action"]) for name, rule in ending.items()} == {
        "until/accept/ns1/ssh/any": "accept",
        "after/accept/ns1/ssh/any": "expired_inbound",
        "until/accept/ns1/ntp": "accept",
        "after/accept/ns1/ntp": "drop",
        "until/accept/ns1/ssh/relays": "accept",
        "after/accept/ns1/ssh/relays": "drop",
    }
    assert {rule["chain"] for rule in ending.values()} == {"input"}
    assert all("limit" not in rule for rule in policy["rules"] if rule["chain"] == "expired_inbound")
    kept = compiled("ns1", {"input": "closed", "live_flows": "keep", "accept__ns1": accepts})
    assert not [rule for rule in kept["rules"] if rule["name"].startswith(("until/", "after/"))]


def test_the_policy_tells_what_is_accepted_and_what_is_not_in_use() -> None:
    more = {"interface": "eth0", "limit": "5/minute", "expires": "2027-01-31T00:00:00Z", "reason": "ticket 4711"}
    accepts = [{"service": "ssh", "from": ["relays", "host:db1"], **more}]
    variables = {
        f"egress_firewall_{kind}": value for kind, value in {"accept__web": accepts, "input": "closed"}.items()
    }
    closed = changed("all", variables)["web1"]
    limit = {"rate": "5/minute", "burst": None, "per": "none"}
    told = {"origin": "web/ssh", "service": "ssh", "from": ["relays", "host:db1"], **more}
    assert closed["accepts"] == [{**told, "interface": ["eth0"], "limit": limit}]
    assert "accept/web/ssh" not in closed["not_in_use"]
    for mode in ("guard", "off"):
        policy = changed("all", {**variables, "egress_firewall_input": mode})["web1"]
        assert (policy["accepts"], policy["not_in_use"][-1]) == ([], "accept/web/ssh")
        assert not [rule for rule in policy["rules"] if rule["name"].startswith("accept/")]


def test_hosts_of_one_group_may_have_other_modes() -> None:
    closed = {"egress_firewall_input": "closed"}
    hostvars = site()
    for variables in hostvars.values():
        variables["egress_firewall_accept__web"] = [{"service": "https", "from": "any"}]
    hostvars["web2"] |= closed
    found = policies(Inventory(hostvars, {"all": list(HOSTS), **GROUPS}), NOW)
    assert [len(found[host]["accepts"]) for host in ("web1", "web2", "db1")] == [0, 1, 0]


def test_what_is_accepted_no_more_is_told() -> None:
    accepts = [{"service": "ssh", "from": "any", "expires": "2026-01-31T00:00:00Z"}]
    policy = compiled("ns1", {"input": "closed", "accept__ns1": accepts})
    assert policy["notices"] == ["the accept ns1/ssh expired at 2026-01-31T00:00:00Z"]
    assert policy["accepts"] == []


def test_profiles_accept() -> None:
    accepts = [{"service": "https", "from": "any"}]
    policy = compiled("web1", {"input": "closed", "profiles": {"web": {"accepts": accepts}}})
    assert [accept["origin"] for accept in policy["accepts"]] == ["web/https"]
    assert [grant["origin"] for grant in policy["grants"] if grant["origin"].startswith("web/")]


# the variable in YAML | rules out, with the types | rules in
ICMP = r"""
{} | always/echo-request/icmp=echo-request always/echo-request/icmpv6=echo-request | always/icmp=echo-request always/icmpv6=echo-request
{out: []} | | always/icmp=echo-request always/icmpv6=echo-request
{in: []} | always/echo-request/icmp=echo-request always/echo-request/icmpv6=echo-request |
{out: [timestamp-request, nd-redirect], in: [timestamp-request]} | always/timestamp-request=timestamp-request always/nd-redirect=nd-redirect | always/icmp=timestamp-request
{out: [], in: [packet-too-big, echo-request, echo-request]} | | always/icmp=echo-request always/icmpv6=packet-too-big+echo-request
"""


@pytest.mark.parametrize("line", ICMP.strip().splitlines())
def test_icmp(line: str) -> None:
    variable, out, into = (cell.strip() for cell in line.split("|"))
    shown = {"icmp": yaml.safe_load(variable)} if variable != "{}" else {}
    policy = compiled("ns1", {"input": "closed", **shown})
    rules = [rule for rule in policy["rules"] if rule["name"] not in ALWAYS and "icmp_type" in rule]
    for chain, expected in (("output", out), ("input", into)):
        found = [f"{rule['name']}={'+'.join(rule['icmp_type'])}" for rule in rules if rule["chain"] == chain]
        assert found == expected.split()


def test_icmp_is_each_hosts_own() -> None:
    found = changed("web1", {"egress_firewall_icmp": {"out": ["address-mask-request"]}})
    grants = {
        host: [g["origin"] for g in policy["grants"] if g["origin"].startswith("always")]
        for host, policy in found.items()
    }
    assert (grants["web1"], grants["web2"]) == (["always/address-mask-request"], ["always/echo-request"])


def test_forbids_withdraw_what_icmp_lets_out() -> None:
    forbid = {"service": {"protocol": "icmp", "icmp_types": ["timestamp-request"]}}
    policy = compiled("ns1", {"icmp": {"out": ["timestamp-request"]}, "forbid__all": [forbid]})
    assert [item["origin"] for item in policy["withheld"]] == ["always/timestamp-request"]


def test_a_group_cannot_pose_as_what_icmp_lets_out() -> None:
    services = {"echo-request": {"protocol": "tcp", "ports": [1]}}
    variables = {"services": services, "allow__always": [{"service": "echo-request", "to": "any"}]}
    named = {f"egress_firewall_{kind}": value for kind, value in variables.items()}
    found = changed("all", named, {"always": ["ns1"]})["ns1"]["rules"]
    assert [rule["name"] for rule in found if rule.get("destination_ports") == ["1"]] == ["grant/always/echo-request"]
