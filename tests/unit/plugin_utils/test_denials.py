# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is denied: what the log says of it, and that in audit it passes while the policy stays what it is."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.plugin_utils.sites import GROUPS, HOSTS, NOW, changed, members, site

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, either, evaluate
from ansible_collections.palisade.egress.plugins.plugin_utils._changes import changes
from ansible_collections.palisade.egress.plugins.plugin_utils._denials import log_prefix
from ansible_collections.palisade.egress.plugins.plugin_utils._explain import explain
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._ruled import Ruled, rule

SOON, LATER = "2026-07-01T00:00:00Z", "2026-12-31T00:00:00Z"
SMTP = {"service": "smtp", "to": "relays"}
WAIVER = {"forbid": "web/smtp", **SMTP, "reason": "why", "owner": "me", "expires": SOON}
AUDIT = {"mode": "audit"}


def compiled(host: str, **variables: Any) -> dict[str, Any]:
    policy: dict[str, Any] = changed("all", {f"egress_firewall_{k}": v for k, v in variables.items()})[host]
    return policy


def inventory(target: str = "all", **variables: Any) -> Inventory:
    hostvars = site()
    for host in members(target):
        hostvars[host].update({f"egress_firewall_{name}": value for name, value in variables.items()})
    return Inventory(hostvars, {"all": list(HOSTS), **GROUPS})


def ruled(target: str = "all", **variables: Any) -> Ruled:
    return rule(inventory(target, **variables), NOW)


def prefixes(policy: dict[str, Any]) -> dict[str, str]:
    """Return what the log says, by chain and rule."""
    return {f"{r['chain']} {r['name']}": r["log"]["prefix"] for r in policy["rules"] if "log" in r}


# what becomes of it, what decides so, protocol | prefix
PREFIXES = [
    (("drop", "output", ""), "egress drop output "),
    (("drop", "web/smtp", ""), "egress drop web/smtp "),
    (("audit", "web/smtp", "tcp"), "egress audit web/smtp tcp "),
    (("reject", "output", "other"), "egress reject output other "),
    (("drop", "forward", "other"), "egress drop forward other "),
    (("drop", "loopback", "other"), "egress drop loopback other "),
    (("drop", "web/fifteen-long", ""), "egress drop web/fiftee~97d8 "),
    (("drop", "database/smtp", ""), "egress drop database/smtp "),
    (("drop", "database/smtp", "tcp"), "egress drop databa~e750 tcp "),
    (("reject", "database/smtp", "other"), "egress reject da~e750 other "),
    (("drop", "a$b/smtp", ""), "egress drop a_b/smtp~ee88 "),
]


@pytest.mark.parametrize(("told", "expected"), PREFIXES, ids=str)
def test_prefix(told: tuple[str, str, str], expected: str) -> None:
    assert log_prefix(*told) == expected


@given(
    st.sampled_from(["drop", "reject", "audit"]),
    st.text(min_size=1),
    st.sampled_from(["", "tcp", "udp", "icmp", "other"]),
)
def test_any_prefix_is_one_that_the_kernel_takes_and_has_its_words(verb: str, what: str, protocol: str) -> None:
    prefix = log_prefix(verb, what, protocol)
    decode([{"name": "a", "chain": "output", "action": "log", "log": {"prefix": prefix}}], {})
    words = prefix.split(" ")
    assert (words[:2], words[-1], len(words)) == (["egress", verb], "", 5 if protocol else 4)


def test_what_is_logged_by_default() -> None:
    policy = compiled("web1", allow__web1=[SMTP], waivers__web1=[WAIVER], forbid__web1=["ftp"])
    assert prefixes(policy) == {
        "spoofed_output always/spoofed-source": "egress drop spoofed ",
        "output after/waiver/web1/smtp": "egress drop expired ",
        "output always/invalid": "egress drop invalid ",
        "output forbid/web1/ftp": "egress drop web1/ftp ",
        "forbid_web_smtp forbid/web/smtp": "egress drop web/smtp ",
        "output always/log": "egress drop output ",
        "forward always/log": "egress drop forward ",
    }
    logs = [rule["log"] for rule in policy["rules"] if "log" in rule]
    assert all(log == {"prefix": log["prefix"], "rate": "10/second"} for log in logs)
    assert (policy["mode"], policy["settings"]["live_flows"], policy["notices"]) == ("enforce", "end", [])


def test_where_rate_and_group_of_a_log_come_from() -> None:
    policy = compiled("web1", log={"rate": "60/hour", "group": 7, "chains": ["output"]})
    logs = [rule["log"] for rule in policy["rules"] if "log" in rule]
    assert {(log["rate"], log["group"]) for log in logs} == {("60/hour", 7)}
    assert not any(rule["chain"] == "forward" for rule in policy["rules"])


def test_inbound_packets_are_logged_where_asked_for() -> None:
    assert prefixes(compiled("ns1", log={"chains": ["input"]})) == {
        "spoofed_input always/spoofed-source": "egress drop spoofed ",
        "input always/loopback-destination": "egress drop loopback ",
        "input always/invalid": "egress drop invalid ",
        "input always/no-syn": "egress drop no-syn ",
    }


def test_without_a_log_rules_are_as_short_as_they_can_be() -> None:
    policy = compiled("web1", log=False)
    assert prefixes(policy) == {}
    assert {rule["chain"] for rule in policy["rules"]} == {"output", "input"}
    spoofed = [rule for rule in policy["rules"] if rule["name"] == "always/spoofed-source"]
    assert [rule["action"] for rule in spoofed] == ["drop", "drop"]


def test_rejected_packets_are_told_from_dropped_ones() -> None:
    found = prefixes(compiled("web1", default_verdict="reject"))
    assert found["output forbid/web/smtp"] == "egress reject web/smtp "
    assert found["output always/log"] == "egress reject output "
    assert found["forward always/log"] == "egress drop forward "


def test_a_forbid_s_verdict_is_its_own_in_the_log_and_the_report_too() -> None:
    forbids = [
        {"service": "irc", "verdict": "reject", "reject_with": "tcp-reset"},
        {"service": "ntp", "verdict": "drop"},
    ]
    for default, told in ("drop", "drop"), ("reject", "reject"):
        policy = compiled("web1", default_verdict=default, forbid__web1=forbids)
        found = prefixes(policy)
        assert found["output forbid/web1/irc"] == "egress reject web1/irc "
        assert found["output forbid/web1/ntp"] == "egress drop web1/ntp "
        assert found["output forbid/web/smtp"] == f"egress {told} web/smtp "
        extras = [{k: f[k] for k in ("verdict", "reject_with") if k in f} for f in policy["forbids"]]
        assert extras == [{}, {"verdict": "reject", "reject_with": "tcp-reset"}, {"verdict": "drop"}]


def test_a_reset_is_for_tcp_and_all_else_gets_an_error() -> None:
    forbids = [{"name": "all", "service": "any", "to": "203.0.113.0/24"}, "dns"]
    for log in {"chains": ["output"]}, {"chains": ["output"], "protocols": True}:
        reset = {"default_verdict": "reject", "reject_with": "tcp-reset"}
        policy = compiled("web2", log=log, forbid__web2=forbids, **reset)
        replies = {(r.get("protocol") == "tcp", r["reject_with"]) for r in policy["rules"] if r["action"] == "reject"}
        assert replies == {(True, "tcp-reset"), (False, "icmp-port-unreachable")}
        assert {"forbid/web2/all/tcp", "forbid/web2/all", "forbid/web2/dns/udp"} <= {r["name"] for r in policy["rules"]}
        assert policy["chains"]["output"] == {"default": "reject", "reject_with": "tcp-reset"}


def test_protocols_have_prefixes_of_their_own() -> None:
    forbids = [{"name": "all", "service": "any", "to": "203.0.113.0/24"}, "ipsec"]
    policy = compiled("ns1", log={"protocols": True, "chains": ["output"]}, forbid__ns1=forbids)
    found = prefixes(policy)
    assert [(rule, prefix) for rule, prefix in found.items() if "forbid" in rule] == [
        ("output forbid/ns1/all/tcp", "egress drop ns1/all tcp "),
        ("output forbid/ns1/all/udp", "egress drop ns1/all udp "),
        ("output forbid/ns1/all/icmp", "egress drop ns1/all icmp "),
        ("output forbid/ns1/all/icmpv6", "egress drop ns1/all icmp "),
        ("output forbid/ns1/all", "egress drop ns1/all other "),
        ("output forbid/ns1/ipsec/udp", "egress drop ns1/ipsec udp "),
        ("output forbid/ns1/ipsec/esp", "egress drop ns1/ipsec other "),
    ]
    assert {rule: prefix for rule, prefix in found.items() if "always/log" in rule} == {
        "log_output always/log/tcp": "egress drop output tcp ",
        "log_output always/log/udp": "egress drop output udp ",
        "log_output always/log/icmp": "egress drop output icmp ",
        "log_output always/log/icmpv6": "egress drop output icmp ",
        "log_output always/log": "egress drop output other ",
    }
    assert policy["rules"][[r["name"] for r in policy["rules"]].index("always/log")]["target"] == "log_output"


# what a host is told beside its mode, in which it must log what it would deny
POLICIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rejecting": {"default_verdict": "reject"},
    "resetting": {"default_verdict": "reject", "reject_with": "tcp-reset", "input": "closed", "guard": False},
    "by protocol": {"log": {"protocols": True, "chains": ["output", "input", "forward"]}},
    "waived": {"allow__web": [SMTP], "waivers__web": [WAIVER]},
    "waived twice": {
        "allow__web": [SMTP],
        "waivers__web": [WAIVER, {**WAIVER, "expires": LATER}],
    },
    "waived and ending, by protocol": {
        "log": {"protocols": True},
        "allow__web": [SMTP, {"service": "any", "to": "any", "expires": SOON}],
        "waivers__web": [WAIVER, {**WAIVER, "expires": LATER}],
    },
    "ending": {
        "allow__web": [
            {"service": "ssh", "to": "any", "expires": SOON},
            {"service": "ssh", "to": "relays", "user": "root"},
        ],
        "forbid__web": [{"service": "https", "to": "relays"}],
    },
}
TIMES = (NOW, NOW + 40 * 86400, NOW + 300 * 86400)


def packets() -> list[Packet]:
    """Return packets that leave web1 or pass it: to begin a flow, of one, and to end it."""
    addresses = (("198.51.100.11", "203.0.113.25"), ("2001:db8:1::11", "2001:db8:9::9"))
    kinds = [("tcp", 22), ("tcp", 25), ("tcp", 443), ("udp", 53), ("esp", None)]
    made = []
    for ends, (protocol, port), state, time, chain in product(
        addresses, kinds, ("new", "established", "invalid"), TIMES, ("output", "forward")
    ):
        more: dict[str, Any] = {"protocol": protocol, "destination_port": port, "ctstate": state, "time": time}
        made.append(Packet.between(*ends, chain=chain, source_type="local", **more))
    return made


@pytest.mark.parametrize("variables", POLICIES.values(), ids=POLICIES)
def test_audit_logs_and_lets_pass_exactly_what_the_policy_denies(variables: dict[str, Any]) -> None:
    lowered = ruled(mode="audit", **variables).lowered["web1"]
    enforced = ruled(**variables).lowered["web1"].ruleset
    assert lowered.enforced == enforced
    denied = 0
    for packet in packets():
        would, does = (evaluate(each, packet, either) for each in (enforced, lowered.ruleset))
        logs = [rule.log.prefix.split()[1] for rule in does.trace if rule.log]
        for before, after in zip(would.verdicts, does.verdicts, strict=True):
            if before.rule == "always/invalid" or (before.rule or "").startswith("always/invalid/"):
                assert (after.action, logs) == ("drop", ["drop"])
            else:
                assert after.action == "accept"
                assert len(does.verdicts) > 1 or (logs == ["audit"]) is (before.action != "accept")
                denied += before.action != "accept"
    assert denied


@pytest.mark.parametrize("variables", POLICIES.values(), ids=POLICIES)
def test_in_audit_only_what_cannot_be_honest_is_stopped(variables: dict[str, Any]) -> None:
    policy = compiled("web1", mode="audit", **variables)
    stopping = {rule["name"] for rule in policy["rules"] if rule["action"] in ("drop", "reject")}
    kinds = {"/".join(name.split("/")[:2]) for name in stopping}
    assert kinds == {"always/spoofed-source", "always/loopback-destination", "always/invalid", "always/no-syn"}
    assert {chain["default"] for chain in policy["chains"].values()} == {"accept"}


def test_the_report_of_an_audit() -> None:
    policy = compiled("web1", mode="audit", live_flows="end")
    assert (policy["mode"], policy["settings"]["live_flows"]) == ("audit", "keep")
    assert policy["notices"] == ["the host is in audit: what its policy denies is logged and passes"]
    gone = compiled("web1", mode="audit", state="absent")
    assert (gone["rules"], gone["chains"], gone["notices"]) == ([], {}, [])


def test_the_report_of_an_audit_is_that_of_the_policy() -> None:
    grants = {"allow__web": [{"service": "https", "to": "any"}, {"service": "https", "to": "relays"}]}
    audited, enforced = (compiled("web1", **mode, **grants) for mode in (AUDIT, {}))
    assert audited["notices"][1:] == enforced["notices"] != []
    assert all(audited[key] == enforced[key] for key in ("grants", "forbids", "withheld", "waivers", "profiles"))


def test_what_is_proven_is_the_policy() -> None:
    proof = {"from": "group:web", "to": "any", "service": "smtp", "expect": "denied"}
    assert compiled("web1", mode="audit", assertions=[proof])
    with pytest.raises(PolicyError, match=r"is dropped by the rule 'forbid/web/smtp' in output of host web1"):
        compiled("web1", mode="audit", assertions=[{**proof, "expect": "allowed"}])


def test_a_policy_that_locks_out_is_refused_in_audit_too() -> None:
    with pytest.raises(PolicyError, match='"Ansible logs in from ns1" does not hold'):
        compiled("web1", mode="audit", controllers=["host:ns1"])


def test_probes_in_audit() -> None:
    probes = [
        {"service": "https", "to": "203.0.113.9", "expect": "blocked"},
        {"service": "dns", "to": "resolvers"},
    ]
    policy = compiled("web1", mode="audit", probes__web1=probes)
    assert {probe["expect"] for probe in policy["probes"]} == {"reachable"}
    why = "the probe web1/https is not tried, as what it expects to be blocked passes in audit"
    assert policy["notices"][1:] == [why]
    with pytest.raises(PolicyError, match=r"expects 203\.0\.113\.9 to be reachable, and the default"):
        compiled("web1", mode="audit", probes__web1=[{**probes[0], "expect": "reachable"}])


def test_explain_tells_the_policy_and_the_audit() -> None:
    answer = explain(inventory(mode="audit"), "web1", "relays", "smtp")
    assert answer["verdict"] == "denied"
    assert "  The host is in audit: what is denied is logged, and passes all the same." in answer["text"].splitlines()
    for variables, service in (({}, "smtp"), (AUDIT, "ping")):
        assert "audit" not in explain(inventory(**variables), "web1", "relays", service)["text"]


HTTPS = [{"service": "https", "to": "any"}]
# before | after | states | the beginnings of all lines about flows
PLANS: list[tuple[dict[str, Any], dict[str, Any], list[str], set[str]]] = [
    (AUDIT, AUDIT, [], set()),
    ({}, AUDIT, ["audited"], {"+ newly allowed"}),
    (AUDIT, {}, ["enforced"], {"- newly denied"}),
    (AUDIT, {**AUDIT, "allow__web": HTTPS}, ["changed"], {"+ newly allowed"}),
    ({"managed": False}, AUDIT, ["new in audit"], {"+ newly allowed"}),
    ({"log": False}, {"log": {"protocols": True}}, [], set()),
]


@pytest.mark.parametrize(("before", "after", "states", "lines"), PLANS, ids=str)
def test_plan(before: dict[str, Any], after: dict[str, Any], states: list[str], lines: set[str]) -> None:
    found = changes(ruled("web", **before), ruled("web", **after))
    assert sorted({group["state"] for group in found["changes"]}) == states
    told = {line.strip().partition(":")[0] for line in found["text"].splitlines() if line.startswith("  +")}
    told |= {line.strip().partition(":")[0] for line in found["text"].splitlines() if line.startswith("  -")}
    assert {line.partition(" in ")[0] for line in told} == lines
