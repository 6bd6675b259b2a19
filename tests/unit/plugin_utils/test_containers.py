# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of containers: what is theirs and what is their host's, in which order; and who forwards at all."""

from __future__ import annotations

from typing import Any

import pytest
from unit.plugin_utils.sites import changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError

GROUPS = {"container_host": ["web1"]}
GRANT = {"service": "https", "to": "relays", "containers": True}
UNTIL = "2026-12-31T00:00:00Z"
STATEFUL = [
    "always/established",
    "always/related-icmp",
    "always/related-icmpv6",
    "always/invalid",
    "always/spoofed-source",
    "always/no-syn",
]


def compiled(variables: dict[str, Any], groups: dict[str, list[str]] | None = None) -> dict[str, Any]:
    values = {f"egress_firewall_{name}": value for name, value in variables.items()}
    policy: dict[str, Any] = changed("all", values, GROUPS if groups is None else groups)["web1"]
    return policy


def names(policy: dict[str, Any], chain: str) -> list[str]:
    return [rule["name"] for rule in policy["rules"] if rule["chain"] == chain]


def find(policy: dict[str, Any], chain: str, name: str) -> dict[str, Any]:
    (found,) = [rule for rule in policy["rules"] if (rule["chain"], rule["name"]) == (chain, name)]
    return dict(found)


def test_containers_have_grants_of_their_own_and_their_hosts_forbids() -> None:
    policy = compiled({"allow__web1": [GRANT, {"service": "ssh", "to": "relays"}], "forbid__web1": ["dns"]})
    ways = ["always/between-containers", *STATEFUL, "always/containers", "always/inbound", "always/log"]
    assert names(policy, "forward") == ways
    forbids = ["forbid/web/smtp", "forbid/web1/dns/udp", "forbid/web1/dns/tcp"]
    assert names(policy, "containers") == [*forbids, "web1/https"]
    assert "web1/ssh" in names(policy, "output")
    assert "web1/https" not in names(policy, "output")
    assert policy["chains"]["forward"] == {"default": "drop"}
    bridges = {"in_interface": ["podman0", "docker0"]}
    assert find(policy, "forward", "always/containers").items() >= {**bridges, "target": "containers"}.items()
    (grant,) = [grant for grant in policy["grants"] if grant["origin"] == "web1/https"]
    assert grant["containers"] is True


def test_bridges_are_those_of_the_inventory() -> None:
    policy = compiled({"allow__web1": [{**GRANT, "interface": "eth1"}], "container_bridges": ["cni0"]})
    between = find(policy, "forward", "always/between-containers")
    assert (between["in_interface"], between["out_interface"]) == (["cni0"], ["cni0"])
    assert find(policy, "containers", "web1/https")["out_interface"] == ["eth1"]
    assert policy["container_bridges"] == ["cni0"]


def test_waivers_hold_for_containers_and_end() -> None:
    waiver = {"forbid": "web/smtp", "service": "smtp", "to": "relays", "reason": "x", "owner": "y", "expires": UNTIL}
    smtp = {"service": "smtp", "to": "relays", "containers": True}
    policy = compiled({"allow__web1": [smtp, {**GRANT, "expires": UNTIL}], "waivers__web1": [waiver]})
    assert names(policy, "forward")[:2] == ["always/between-containers", "always/ending"]
    assert [name for name in names(policy, "ending") if name.startswith("until/")] == [
        "until/web1/https",
        "until/waiver/web1/smtp",
    ]
    target = find(policy, "containers", "forbid/web/smtp")["target"]
    assert names(policy, target) == ["waiver/web1/smtp", "forbid/web/smtp"]
    assert find(policy, target, "waiver/web1/smtp")["expires"] == UNTIL
    kept = compiled({"allow__web1": [{**GRANT, "expires": UNTIL}], "live_flows": "keep"})
    assert "always/ending" not in names(kept, "forward")


def test_forbids_leave_something_of_grants_to_containers_or_there_is_an_error() -> None:
    smtp = {"service": "smtp", "to": "relays", "containers": True}
    with pytest.raises(PolicyError, match=r"allow__web1\[0\] on host web1.* forbid 'web/smtp'"):
        compiled({"allow__web1": [smtp]})


@pytest.mark.parametrize("mode", ["guard", "off", "closed"])
def test_what_comes_in(mode: str) -> None:
    accepts = [{"service": "http", "from": "any", "containers": True}, {"service": "ssh", "from": "any"}]
    policy = compiled({"accept__web1": accepts, "input": mode})
    inbound = find(policy, "forward", "always/inbound")
    assert inbound["out_interface"] == ["podman0", "docker0"]
    if mode == "closed":
        assert names(policy, "into_containers") == ["accept/web1/http"]
        assert "accept/web1/ssh" in names(policy, "input")
        assert "accept/web1/http" not in names(policy, "input")
        assert [accept.get("containers", False) for accept in policy["accepts"]] == [False, True]
    else:
        assert inbound["action"] == "accept"
        assert policy["not_in_use"][-2:] == ["accept/web1/ssh", "accept/web1/http"]


def test_where_nothing_is_accepted_nothing_comes_in() -> None:
    policy = compiled({"input": "closed"})
    assert "always/inbound" not in names(policy, "forward")


def test_accepts_end_too() -> None:
    accepts = [{"service": "http", "from": "any", "containers": True, "expires": UNTIL}]
    policy = compiled({"accept__web1": accepts, "input": "closed"})
    assert names(policy, "ending_into")[0] == "until/accept/web1/http"


def test_what_is_denied_is_told_and_passes_in_audit() -> None:
    denied = find(compiled({}), "containers", "forbid/web/smtp")
    assert (denied["action"], denied["log"]["prefix"]) == ("drop", "egress drop web/smtp ")
    assert find(compiled({"default_verdict": "reject"}), "containers", "forbid/web/smtp")["action"] == "reject"
    audit = compiled({"mode": "audit"})
    assert find(audit, "containers", "forbid/web/smtp")["action"] == "accept"
    assert audit["chains"]["forward"] == {"default": "accept"}


def test_a_router_lets_pass_what_containers_behind_it_may_reach() -> None:
    more = {"ns1": {"egress_firewall_router": {"inside": {"eth1": ["198.51.100.0/24", "2001:db8:1::/64"]},
                                               "outside": ["eth0"]}}}  # fmt: skip
    groups = {**GROUPS, "router": ["ns1"]}
    policy = changed("all", {"egress_firewall_allow__web1": [GRANT]}, groups, more)["ns1"]
    assert "web1/https" in names(policy, "from_web1")


def test_nobody_is_a_router_and_has_containers() -> None:
    with pytest.raises(
        PolicyError, match="profiles on host web1: the host has both profiles router and container_host"
    ):
        compiled({"router": {}}, {**GROUPS, "router": ["web1"]})


def test_a_host_of_containers_has_bridges() -> None:
    with pytest.raises(PolicyError, match="container_bridges on host web1: the host has the profile container_host"):
        compiled({"container_bridges": []})


BOTH, NONE = {"ipv4": True, "ipv6": True}, {"ipv4": False, "ipv6": False}
# the groups of the host | what the inventory says | what is forwarded | what nobody asked to be turned off
FORWARDING: list[tuple[str, Any, dict[str, bool], list[str]]] = [
    ("", "auto", NONE, ["ipv4", "ipv6"]),
    ("", False, NONE, []),
    ("", "off", NONE, []),
    ("", {"ipv4": False}, NONE, ["ipv6"]),
    ("router", "auto", BOTH, []),
    ("router", "on", BOTH, []),
    ("container_host", "auto", BOTH, []),
    ("container_host", {"ipv6": False}, {"ipv4": True, "ipv6": False}, []),
    ("container_host", False, NONE, []),
]


@pytest.mark.parametrize(("group", "said", "forwarded", "unasked"), FORWARDING)
def test_who_forwards(group: str, said: Any, forwarded: dict[str, bool], unasked: list[str]) -> None:
    values = {"egress_firewall_forwarding": said, **({"egress_firewall_router": {}} if group == "router" else {})}
    policy = changed("web1", values, {group: ["web1"]} if group else {})["web1"]
    assert (policy["forwarding"], policy["forwarding_unasked"]) == (forwarded, unasked)
