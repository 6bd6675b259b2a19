# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""Policies as rules: order, names and options."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import changed

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
    assert names(policy, "output") == [*ALWAYS, *forbids, *ECHO, *grants]
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
    ({"profiles": {"router": {"groups": ["mail"], "forbids": []}}}, {"output": "drop", "input": "accept"}, "drop"),
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
    groups = {"palisade": ["ns1"], "always": ["ns1"], "forbid": ["ns1"]}
    variables = {f"egress_firewall_allow__{name}": [{"service": "ssh", "to": "any"}] for name in groups}
    found = [rule["name"] for rule in changed("all", variables, groups)["ns1"]["rules"]]
    assert [name for name in found if "ssh" in name] == ["grant/always/ssh", "grant/forbid/ssh", "grant/palisade/ssh"]
