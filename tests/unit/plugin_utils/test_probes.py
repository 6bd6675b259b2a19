# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""What becomes of declared probes: which a host gets, and what egress_probe is to try."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import ADDRESSES, NETWORKS, changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import decode_probes

ONLY_PROBES = {"base": {"probes": []}}
DNS, DNS6 = "base/dns 198.51.100.53", "base/dns 2001:db8:1::53"


def policies(**variables: Any) -> dict[str, Any]:
    return changed("all", {f"egress_firewall_{name}": value for name, value in variables.items()})


def names(host: str, **variables: Any) -> list[str]:
    return [probe["name"] for probe in policies(**variables)[host]["probes"]]


# A probe of web1, which may reach anything | what is tried, less name and expectation
TRIED = """
{service: dns, to: 203.0.113.9}                                     | {host: 203.0.113.9, protocol: udp, port: 53, payload: dns}
{service: dns, to: 203.0.113.9, query: a.example, timeout: "1.5"}   | {host: 203.0.113.9, protocol: udp, port: 53, payload: dns, query: a.example, timeout: 1.5}
{service: ntp, to: "2001:db8:9::9"}                                 | {host: "2001:db8:9::9", protocol: udp, port: 123, payload: ntp}
{service: syslog, to: 203.0.113.9}                                  | {host: 203.0.113.9, protocol: udp, port: 514, payload: syslog}
{service: https, to: 203.0.113.9}                                   | {host: 203.0.113.9, protocol: tcp, port: 443}
{service: kerberos, to: 203.0.113.9}                                | {host: 203.0.113.9, protocol: tcp, port: 88}
{service: irc, to: 203.0.113.9}                                     | {host: 203.0.113.9, protocol: tcp, port: 194}
{service: snmp, to: 203.0.113.9}                                    | {host: 203.0.113.9, protocol: udp, port: 161, payload: none}
{service: ping, to: 203.0.113.9}                                    | {host: 203.0.113.9, protocol: icmp}
{service: ping, to: "2001:db8:9::9"}                                | {host: "2001:db8:9::9", protocol: icmp}
{service: {protocol: icmp}, to: 203.0.113.9}                        | {host: 203.0.113.9, protocol: icmp}
{service: {protocol: tcp, ports: [53]}, to: 203.0.113.9}            | {host: 203.0.113.9, protocol: tcp, port: 53}
{service: {protocol: tcp, ports: [0-9]}, to: 203.0.113.9}           | {host: 203.0.113.9, protocol: tcp, port: 1}
{service: {protocol: udp, ports: [50-60]}, to: 203.0.113.9}         | {host: 203.0.113.9, protocol: udp, port: 50, payload: none}
{service: two-families, to: 203.0.113.9}                            | {host: 203.0.113.9, protocol: tcp, port: 1001}
{service: two-families, to: "2001:db8:9::9"}                        | {host: "2001:db8:9::9", protocol: tcp, port: 1002}
{service: mixed, to: 203.0.113.9}                                   | {host: 203.0.113.9, protocol: icmp}
{service: from-low, to: 203.0.113.9}                                | {host: 203.0.113.9, protocol: tcp, port: 1004}
{service: pptp, to: 203.0.113.9}                                    | {host: 203.0.113.9, protocol: tcp, port: 1723}
{service: ipsec, to: 203.0.113.9}                                   | {host: 203.0.113.9, protocol: udp, port: 500, payload: none}
""".strip().splitlines()
SERVICES = {
    "two-families": [
        {"protocol": "tcp", "family": "ipv4", "ports": [1001]},
        {"protocol": "tcp", "family": "ipv6", "ports": [1002]},
    ],
    "mixed": [{"protocol": "udp", "ports": [1003]}, {"protocol": "icmp"}, {"protocol": "esp"}, {"protocol": "tcp"}],
    "from-low": [
        {"protocol": "tcp", "ports": [1003], "source_ports": ["0-1023"]},
        {"protocol": "tcp", "ports": [1004]},
    ],
}
ANYTHING = {
    "services": SERVICES,
    "allow__web1": [{"service": "any", "to": "any"}],
    "profiles": {"web": {"forbids": []}},
}


@pytest.mark.parametrize("line", TRIED)
def test_what_is_tried(line: str) -> None:
    declared, expected = (yaml.safe_load(part) for part in line.split(" | "))
    *others, probe = policies(**ANYTHING, probes__web1=[declared])["web1"]["probes"]
    assert [other["name"] for other in others] == [DNS, DNS6]
    assert probe.pop("name").startswith("web1/")
    assert probe == {**expected, "expect": "reachable"}


def test_one_of_several_addresses_has_to_answer_but_none_that_is_blocked() -> None:
    declared = [
        {"service": "postgresql", "to": ["databases", "203.0.113.9"]},
        {"service": "smtp", "to": "databases", "expect": "blocked"},
    ]
    probes = policies(profiles=ONLY_PROBES, allow__web=[{"service": "postgresql", "to": "any"}], probes__web=declared)
    tcp = {"protocol": "tcp", "port": 5432, "expect": "reachable", "group": "web/postgresql"}
    blocked = {"protocol": "tcp", "port": 25, "expect": "blocked"}
    assert probes["web1"]["probes"] == [
        {"name": "web/postgresql 198.51.100.13", "host": "198.51.100.13", **tcp},
        {"name": "web/postgresql 203.0.113.9", "host": "203.0.113.9", **tcp},
        {"name": "web/postgresql 2001:db8:1::13", "host": "2001:db8:1::13", **tcp},
        {"name": "web/smtp 198.51.100.13", "host": "198.51.100.13", **blocked},
        {"name": "web/smtp 2001:db8:1::13", "host": "2001:db8:1::13", **blocked},
    ]


def test_the_module_takes_what_is_compiled() -> None:
    long = "-".join(["a" * 39] * 4)
    declared = [
        {"service": "smtp", "to": "relays", "expect": "blocked"},
        {"service": "smtp", "to": "databases", "expect": "blocked", "timeout": 0.5},
        {"service": "smtp", "to": "host:db1", "expect": "blocked", "name": "no-mail"},
        {"service": {"protocol": "tcp", "ports": list(range(1, 99, 2))}, "to": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "expect": "blocked"},
    ]  # fmt: skip
    hostvars = changed("all", {f"egress_firewall_probes__{long.replace('-', '_')}": declared}, {long: ["web1"]})
    probes = hostvars["web1"]["probes"]
    assert len(decode_probes(probes)) == len(probes) == 2 + 1 + 2 + 2 + 1
    assert all(len(probe["name"]) <= 128 for probe in probes)


def test_names_tell_the_declaration() -> None:
    declared = [
        {"service": "smtp", "to": "relays", "expect": "blocked"},
        {"service": "smtp", "to": "host:ns1", "expect": "blocked", "name": "no-mail"},
        {"service": "ssh", "to": "203.0.113.9", "expect": "blocked"},
        {"service": "ssh", "to": "203.0.113.9", "expect": "blocked"},
    ]
    assert names("web2", profiles=ONLY_PROBES, probes__web=declared) == [
        "web/smtp 203.0.113.25",
        "web/no-mail 198.51.100.53",
        "web/no-mail 2001:db8:1::53",
        "web/ssh/203.0.113.9 203.0.113.9",
        "web/ssh/203.0.113.9/2 203.0.113.9",
    ]


MANY = [f"203.0.113.{number}" for number in range(1, 17)]


def test_sixteen_addresses_are_no_prefix_too_many() -> None:
    declared = {"service": "ssh", "to": MANY, "expect": "blocked"}
    assert len(names("web1", profiles=ONLY_PROBES, probes__web1=[declared])) == 16


def test_a_host_has_so_many_probes_as_the_module_takes() -> None:
    declared = [{"service": "ssh", "to": MANY, "expect": "blocked", "name": f"p{number}"} for number in range(31)]
    few = [{"service": "ssh", "to": MANY[:4], "expect": "blocked"}]
    assert len(names("web1", profiles=ONLY_PROBES, probes__web1=declared + few)) == 500
    with pytest.raises(PolicyError) as caught:
        names("web1", profiles=ONLY_PROBES, probes__web1=[*declared, *few, few[0]])
    assert str(caught.value) == (
        "egress_firewall_probes__web1[32] on host web1: with this one the host has 504 addresses to probe, and 500 are "
        "possible. Take some of its probes out, or name fewer addresses."
    )


# What the inventory says | the names of the probes of web1, and those of ns1
SHIPPED = f"""
{{}}                                                               | {DNS}, {DNS6} |
{{networks: {{resolvers: [203.0.113.53]}}}}                        | base/dns 203.0.113.53 | base/dns 203.0.113.53
{{networks: {{resolvers: [203.0.113.53, "host:ns1"]}}}}            | {DNS}, base/dns 203.0.113.53, {DNS6} | base/dns 203.0.113.53
{{networks: {{resolvers: []}}}}                                    | |
{{forbid__all: [dns]}}                                             | |
{{forbid__web: [{{service: dns, to: 198.51.100.53}}]}}             | {DNS6} |
{{forbid__web: [{{service: {{protocol: udp, ports: [1-99]}}}}]}}   | |
{{forbid__web: [{{service: {{protocol: tcp, ports: [53]}}}}]}}     | {DNS}, {DNS6} |
{{forbid__web: [{{service: {{protocol: udp, source_ports: [1024-65535]}}}}]}} | |
{{forbid__web: [{{service: {{protocol: udp, source_ports: [0-1023]}}}}]}} | {DNS}, {DNS6} |
{{profiles: {{base: {{probes: []}}}}}}                             | |
{{profiles: {{base: {{grants: []}}}}}}                             | |
{{profiles: {{base: {{grants: [{{service: dns, to: resolvers}}]}}}}}}                         | {DNS}, {DNS6} |
{{profiles: {{base: {{grants: [{{service: dns, to: resolvers, user: unbound}}]}}}}}}          | |
{{profiles: {{base: {{grants: [{{service: dns, to: resolvers, interface: eth9}}]}}}}}}        | |
{{profiles: {{base: {{grants: [{{service: dns, to: resolvers, limit: 1/hour}}]}}}}}}          | |
{{profiles: {{base: {{grants: [{{service: dns, to: resolvers, expires: "2026-05-31T00:00:00Z"}}]}}}}}} | |
{{profiles: {{base: {{grants: [{{service: dns, to: any}}]}}}}}}                               | |
{{profiles: {{base: {{grants: []}}}}, allow__web: [{{service: dns, to: resolvers}}]}}         | |
{{profiles: {{web: {{probes: [{{service: postgresql, to: "host:db1"}}]}}}}}} | {DNS}, {DNS6}, web/postgresql 198.51.100.13, web/postgresql 2001:db8:1::13 |
{{profiles: {{base: {{probes: [{{service: ping, to: relays}}]}}}}}} | base/ping 203.0.113.25 | base/ping 203.0.113.25
{{state: absent}}                                                  | |
""".strip().splitlines()


@pytest.mark.parametrize("line", SHIPPED)
def test_the_shipped_probe_is_for_a_grant_that_is_in_use(line: str) -> None:
    declared, *expected = (part.strip() for part in line.split(" |"))
    variables = yaml.safe_load(declared)
    if "networks" in variables:
        variables["networks"] = {**NETWORKS, **variables["networks"]}
    found = policies(**variables)
    assert [", ".join(probe["name"] for probe in found[host]["probes"]) for host in ("web1", "ns1")] == expected


def test_mail_servers_need_no_names() -> None:
    assert names("mail1") == []


# Resolvers that are fit for a grant | why they are not for a probe
UNFIT = {
    "203.0.113.0/24": "resolvers has more than 16 addresses, each of which would be tried",
    "127.0.0.53": "resolvers has loopback, multicast or unspecified addresses in it",
    "fe80::53": "'fe80::53' is link-local, which needs an interface",
}


@pytest.mark.parametrize(("resolver", "why"), UNFIT.items())
def test_a_shipped_probe_that_cannot_be_is_left_out_and_told(resolver: str, why: str) -> None:
    policy = policies(networks={**NETWORKS, "resolvers": [resolver]})["web1"]
    assert policy["probes"] == []
    assert policy["notices"] == [f"the shipped probe base/dns is left out: {why}"]


def test_no_host_probes_itself() -> None:
    declared = [{"service": "ssh", "to": "group:web", "expect": "blocked"}]
    found = policies(profiles=ONLY_PROBES, probes__web=declared)
    probed = {host: [probe["host"] for probe in found[host]["probes"]] for host in ("web1", "web2")}
    assert probed == {"web1": ADDRESSES["web2"], "web2": [*ADDRESSES["web1"]]}


def test_hosts_with_equal_policy_share_it_unless_one_is_to_probe_the_other() -> None:
    found = policies()
    assert found["web1"]["probes"] != []
    assert found["web1"] is found["web2"]
    found = policies(probes__web=[{"service": "ssh", "to": "host:web2", "expect": "blocked"}])
    assert found["web1"]["probes"] != found["web2"]["probes"]
    assert found["web1"]["rules"] is found["web2"]["rules"]


# Grants of web1 that may let its probe of ssh to relays pass or not: it is for the probe to find out.
DOUBTFUL = [{"user": "root"}, {"group": "staff"}, {"interface": "eth0"}, {"limit": "1/hour"}]


@pytest.mark.parametrize("condition", DOUBTFUL)
@pytest.mark.parametrize("expect", ["reachable", "blocked"])
def test_what_may_be_satisfied_is_not_refused(condition: dict[str, str], expect: str) -> None:
    grant = {"service": "ssh", "to": "relays", **condition}
    probe = {"service": "ssh", "to": "relays", "expect": expect}
    assert names("web1", profiles=ONLY_PROBES, allow__web1=[grant], probes__web1=[probe]) == ["web1/ssh 203.0.113.25"]


def test_one_address_of_several_may_be_out_of_reach() -> None:
    probe = {"service": "postgresql", "to": ["relays", "host:db1"]}
    assert len(names("web1", profiles=ONLY_PROBES, probes__web1=[probe])) == 3
    with pytest.raises(PolicyError, match=r"the default, as no rule is about it, stops it"):
        names("web1", profiles=ONLY_PROBES, probes__web1=[{**probe, "to": "relays"}])
    with pytest.raises(
        PolicyError, match=r"198\.51\.100\.13 to be blocked, and the rule 'web/postgresql' lets it pass"
    ):
        names("web1", profiles=ONLY_PROBES, probes__web1=[{**probe, "expect": "blocked"}])


def test_what_is_waived_or_granted_can_be_reached_until_that_expires() -> None:
    probe = {"service": "smtp", "to": "relays"}
    waiver = {"forbid": "web/smtp", **probe, "reason": "r", "owner": "o", "expires": "2026-12-31T00:00:00Z"}
    grant = {**probe, "expires": "2026-12-31T00:00:00Z"}
    opened = {"allow__web1": [grant], "waivers__web1": [waiver], "profiles": ONLY_PROBES, "probes__web1": [probe]}
    assert names("web1", **opened) == ["web1/smtp 203.0.113.25"]
    over = {**opened, "allow__web1": [{**grant, "expires": "2026-05-31T00:00:00Z"}]}
    with pytest.raises(PolicyError, match="the default, as no rule is about it, stops it"):
        names("web1", **over)
