# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""What grants and forbids of profiles and suffixed variables make of each other."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError

# host | variables in YAML | origins of grants in use | of withheld | of forbids
TABLE = r"""
web1  | {}                                                                | base/dns web/postgresql web/mysql | | web/smtp
mail1 | {}                                                                | mail/smtp mail/submission mail/smtps | base/dns | mail/ftp mail/dns
db1   | {}                                                                | base/dns | | database/smtp database/ftp
ns1   | {}                                                                | base/dns | |
ns1   | {allow__ns1: [{service: ssh, to: any}]}                           | base/dns ns1/ssh | |
ns1   | {allow__web: [{service: ssh, to: any}]}                           | base/dns | |
web2  | {allow__web: [{service: ssh, to: any}], allow__web_eu: [{service: ssh, to: any}]} | base/dns web/postgresql web/mysql web/ssh web_eu/ssh | | web/smtp
ns1   | {allow__all: [{service: ssh, to: host:db1}, {service: ssh, to: host:web1}]} | base/dns all/ssh/host:db1 all/ssh/host:web1 | |
ns1   | {allow__all: [{service: ssh, to: host:db1}, {service: ssh, to: host:db1, user: root}]} | base/dns all/ssh/host:db1 all/ssh/host:db1/2 | |
ns1   | {allow__all: [{service: ssh, to: [host:db1, any]}, {service: ssh, to: any}]} | base/dns all/ssh/host:db1+any all/ssh/any | |
web1  | {allow__web: [{service: mysql, to: any}]}                         | base/dns web/postgresql web/mysql/databases web/mysql/any | | web/smtp
ns1   | {forbid__all: [dns]}                                              | | base/dns | all/dns
ns1   | {forbid__all: [ping]}                                             | base/dns | always/echo-request | all/ping
ns1   | {forbid__all: [{service: any, to: resolvers}]}                    | | base/dns | all/any
ns1   | {forbid__all: [{name: nodns, service: dns, except: resolvers}]}   | base/dns | | all/nodns
ns1   | {forbid__all: [{service: dns, to: 198.51.100.53}, {service: dns, to: '::/0'}]} | | base/dns | all/dns/198.51.100.53 all/dns/::/0
ns1   | {profiles: {base: {grants: []}}}                                  | | |
ns1   | {profiles: {base: {forbids: [dns]}}}                              | | base/dns | base/dns
ns1   | {profiles: {jump: {groups: [all], grants: [{service: ssh, to: any}]}}} | base/dns jump/ssh | |
web2  | {profiles: {web-eu: {grants: [{service: ssh, to: any}]}}}         | base/dns web/postgresql web/mysql web-eu/ssh | | web/smtp
ns1   | {profiles: {mail: {groups: [nobody]}}}                            | base/dns | |
mail1 | {profiles: {mail: {forbids: [ftp]}}}                              | base/dns mail/smtp mail/submission mail/smtps | | mail/ftp
mail1 | {profiles: {mail_exchanger: {groups: [mail]}}}                    | mail/smtp mail/submission mail/smtps mail_exchanger/smtp | base/dns | mail/ftp mail/dns mail_exchanger/ftp mail_exchanger/dns
"""


def rows() -> list[tuple[str, ...]]:
    return [tuple(cell.strip() for cell in line.split("|")) for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]} {row[1]}"[:70])
def test_origins(row: tuple[str, ...]) -> None:
    host, variables, *expected = row
    policy = compiled(host, variables)
    grants = [grant["origin"] for grant in policy["grants"] if grant["origin"] != "always/echo-request"]
    found = (grants, [w["origin"] for w in policy["withheld"]], [f["origin"] for f in policy["forbids"]])
    assert found == tuple(cell.split() for cell in expected)


def compiled(host: str, variables: str) -> dict[str, Any]:
    values = {f"egress_firewall_{name}": value for name, value in yaml.safe_load(variables).items()}
    policy: dict[str, Any] = changed("all", values)[host]
    return policy


# A grant against forbids of the same host: what becomes of it. Its network is 198.51.100.64/28 and an IPv6 twin.
NETWORK = "[198.51.100.64/28, '2001:db8:9::/64']"
HELD = {
    "[]": "in use",
    "[https]": "cut",
    "[http, https]": "nothing",
    "[{service: http}, {service: ftp}]": "cut",
    "[ftp]": "in use",
    "[any]": "nothing",
    "[{service: any, to: 198.51.100.0/24}]": "cut",
    "[{service: any, to: [198.51.100.0/24, '2001:db8::/32']}]": "nothing",
    "[{service: any, to: [198.51.100.64/29, '2001:db8::/32']}, {service: any, to: 198.51.100.72/29}]": "nothing",
    "[{service: any, to: [198.51.100.64/29, '2001:db8::/32']}, {service: any, to: 198.51.100.73/32}]": "cut",
    "[{service: any, except: 198.51.100.64/32}]": "cut",
    "[{service: any, except: 198.51.100.80/32}]": "nothing",
    "[tcp-low, {service: tcp-high}]": "nothing",
    "[tcp-low]": "cut",
    "[tcp-from-low]": "cut",
    "[ping, udp-all]": "in use",
}
SERVICES = {
    "web-all": {"protocol": "tcp", "ports": [80, 443]},
    "tcp-low": {"protocol": "tcp", "ports": ["0-100"]},
    "tcp-high": {"protocol": "tcp", "ports": ["101-65535"]},
    "tcp-from-low": {"protocol": "tcp", "source_ports": ["0-1023"]},
    "udp-all": {"protocol": "udp"},
}


@pytest.mark.parametrize(("forbids", "expected"), HELD.items())
def test_forbids_beat_grants(forbids: str, expected: str) -> None:
    variables = {
        "egress_firewall_services": SERVICES,
        "egress_firewall_allow__ns1": [{"service": "web-all", "to": yaml.safe_load(NETWORK)}],
        "egress_firewall_forbid__ns1": yaml.safe_load(forbids),
    }
    if expected == "nothing":
        with pytest.raises(PolicyError, match="nothing is left of the grant 'ns1/web-all'"):
            changed("all", variables)
        return
    grant = next(g for g in changed("all", variables)["ns1"]["grants"] if g["origin"] == "ns1/web-all")
    assert ("cut" if "cut_by" in grant else "in use") == expected


def test_cut_grants_name_the_forbids() -> None:
    policy = compiled("ns1", "{allow__ns1: [{service: dns, to: any}], forbid__all: [{service: dns, to: relays}, ftp]}")
    assert [g.get("cut_by") for g in policy["grants"] if g["origin"] == "ns1/dns"] == [["all/dns"]]


def test_what_a_forbid_takes_whole_gets_no_rule() -> None:
    variables = "{allow__ns1: [{service: dns, to: any}], forbid__all: [{service: udp, to: any}], services: {udp: {protocol: udp}}}"
    names = [rule["name"] for rule in compiled("ns1", variables)["rules"]]
    assert [name for name in names if name.startswith("ns1")] == ["ns1/dns/tcp"]


def test_ipv4_forbids_cover_addresses_behind_a_translator() -> None:
    policy = compiled("ns1", "{forbid__all: [{service: smtp, to: 203.0.113.0/24, except: 203.0.113.25}]}")
    rule = next(rule for rule in policy["rules"] if rule["name"] == "forbid/all/smtp")
    assert "64:ff9b::cb00:7100/124" in rule["destination"]
    assert not any("cb00:7119" in cidr for cidr in rule["destination"])


def test_mail_and_web_together_is_an_error_naming_both() -> None:
    with pytest.raises(PolicyError) as caught:
        compiled("mail1", "{profiles: {web: {groups: [mail]}}}")
    assert all(word in str(caught.value) for word in ("mail1", "'mail/smtp'", "'web/smtp'", "mail, web"))


def test_replacing_shipped_forbids_is_reported() -> None:
    policy = compiled("mail1", "{profiles: {mail: {forbids: []}}}")
    assert policy["notices"] == ["the inventory replaces the forbids of the shipped profile mail"]


def test_shipped_grants_to_undefined_networks_are_not_in_use() -> None:
    policy = compiled("web1", "{}")
    assert {"base/http/mirrors", "base/syslog/log_sinks"} <= set(policy["not_in_use"])


def test_long_and_odd_origins_stay_storable_and_unique() -> None:
    many = [{"service": "ssh", "to": [f"198.51.100.{n}" for n in range(start, 99)]} for start in (1, 2)]
    variables = {"egress_firewall_allow__ns1": many}
    names = [rule["name"] for rule in changed("all", variables)["ns1"]["rules"] if rule["name"].startswith("ns1")]
    assert len(set(names)) == 2
    assert all(len(name) <= 110 for name in names)


def test_absent_hosts_need_no_sound_policy() -> None:
    policy = changed("ns1", {"egress_firewall_state": "absent"})["ns1"]
    assert (policy["settings"]["state"], policy["rules"], policy["chains"]) == ("absent", [], {})
