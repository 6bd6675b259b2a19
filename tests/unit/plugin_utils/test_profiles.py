# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""The profiles that ship, and what inventories make of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import NETWORKS, changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.plugin_utils._networks import DEMANDED, OPTIONAL
from ansible_collections.palisade.egress.plugins.plugin_utils._profiles import PROFILES

NAMES = "base mail mail_exchanger web database dns ntp proxy bastion monitoring workstation cloud router container_host"
ALL_NETWORKS = {
    **NETWORKS,
    "time_servers": ["203.0.113.123"],
    **{name: ["203.0.113.99"] for name in OPTIONAL if name not in NETWORKS},
}


def compiled(host: str, variables: dict[str, Any], groups: dict[str, list[str]] | None = None) -> dict[str, Any]:
    values = {f"egress_firewall_{name}": value for name, value in {"router": {}, **variables}.items()}
    policy: dict[str, Any] = changed("all", values, groups)[host]
    return policy


def test_all_ship() -> None:
    assert sorted(PROFILES) == sorted(NAMES.split())


@pytest.mark.parametrize("name", PROFILES)
def test_they_name_only_networks_that_ship_undefined_or_the_internet(name: str) -> None:
    declared = [item for key in ("grants", "forbids", "probes") for item in PROFILES[name].get(key, [])]
    terms = {item[key] for item in declared if isinstance(item, dict) for key in ("to", "except") if key in item}
    assert terms <= {"internet", *(["cloud_metadata"] if name == "cloud" else []), *DEMANDED, *OPTIONAL}


@pytest.mark.parametrize("name", PROFILES)
def test_each_compiles_with_nothing_defined_and_with_everything(name: str) -> None:
    bare = compiled("ns1", {"networks": {"resolvers": [], "time_servers": []}}, {name: ["ns1"]})
    opened = [grant["to"] for grant in bare["grants"] if grant["origin"] != "always/echo-request"]
    assert all(to == (["cloud_metadata"] if name == "cloud" else ["internet"]) for to in opened)
    full = compiled("ns1", {"networks": ALL_NETWORKS}, {name: ["ns1"]})
    assert full["profiles"] == (["base"] if name == "base" else ["base", name])
    assert [origin for origin in full["not_in_use"] if origin.startswith(f"{name}/")] == []
    assert [item for item in full["withheld"] if item["origin"] != "base/dns"] == []


# profile | what a host with it and base may reach, all networks being defined
REACHES = """
dns         | base/dns/resolvers dns/dns/internet dns/dns-over-tls
ntp         | ntp/ntp/internet ntp/nts-ke
proxy       | proxy/http proxy/https proxy/http3
bastion     | bastion/ssh
monitoring  | monitoring/snmp monitoring/submission
workstation | workstation/squid workstation/http-alt workstation/imaps
"""
# profile | a service that it must not reach, and where
NEVER = """
dns         | https | internet
dns         | smtp  | any
ntp         | http  | internet
proxy       | ssh   | any
proxy       | dns   | 203.0.113.0/24
bastion     | https | internet
bastion     | ssh   | internet
bastion     | rdp   | internet
monitoring  | ssh   | any
monitoring  | smtp  | relays
workstation | smtp  | relays
workstation | irc   | any
workstation | smb   | internet
workstation | mssql-browser | internet
workstation | tftp  | any
workstation | dns   | 203.0.113.0/24
router      | ftp   | any
"""


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


@pytest.mark.parametrize(("name", "expected"), rows(REACHES))
def test_what_it_reaches(name: str, expected: str) -> None:
    policy = compiled("ns1", {"networks": ALL_NETWORKS}, {name: ["ns1"]})
    origins = {grant["origin"] for grant in policy["grants"]}
    wanted = {origin if origin in origins else origin.rpartition("/")[0] for origin in expected.split()}
    assert wanted <= origins


@pytest.mark.parametrize(("name", "service", "to"), rows(NEVER))
def test_what_it_must_never_reach(name: str, service: str, to: str) -> None:
    grant = {"allow__ns1": [{"service": service, "to": to}]}
    with pytest.raises(PolicyError, match=rf"as the forbid '{name}/"):
        compiled("ns1", {"networks": ALL_NETWORKS, **grant}, {name: ["ns1"]})


# what the inventory says about profiles, in YAML | host | its profiles | origins that it must have | must not have
CHANGES = """
{mail: {groups: [web]}, web: {forbids: []}}                  | web1  | base mail web | mail/smtp web/postgresql mail/ftp |
{mail: {grants: [{service: lmtp, to: relays}]}}              | mail1 | base mail     | mail/lmtp mail/ftp mail/dns       | mail/smtp
{mail: {forbids: [telnet]}}                                  | mail1 | base mail     | mail/smtp mail/telnet base/dns    | mail/ftp mail/dns
{mail: {groups: []}}                                         | mail1 | base mail     | mail/smtp                         |
{base: {grants: [{service: ssh, to: any}]}}                  | ns1   | base          | base/ssh                          | base/dns
{base: {forbids: [ssh]}}                                     | mail1 | base mail     | base/ssh mail/smtp                |
{shop: {groups: [web], grants: [{service: redis, to: any}]}} | web1  | base web shop | shop/redis web/mysql web/smtp     |
{office: {grants: [{service: ipp, to: any}]}}                | web1  | base web      | web/mysql                         | office/ipp
{workstation: {groups: [web]}}                               | web1  | base web workstation | web/smtp workstation/smtp workstation/worms |
"""


@pytest.mark.parametrize(("profiles", "host", "names", "present", "absent"), rows(CHANGES))
def test_inventories_override_and_extend(profiles: str, host: str, names: str, present: str, absent: str) -> None:
    policy = compiled(host, {"profiles": yaml.safe_load(profiles)})
    origins = {item["origin"] for key in ("grants", "forbids", "withheld") for item in policy[key]}
    assert sorted(policy["profiles"]) == sorted(names.split())
    assert set(present.split()) <= origins
    assert not set(absent.split()) & origins
