# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that answer questions about policies, as users meet them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from unit.plugin_utils.playbooks import LAB, ROOT, run_play
from unit.plugin_utils.sites import GROUPS, HOSTS, site

from ansible_collections.palisade.egress.plugins.filter.egress_compare import egress_compare
from ansible_collections.palisade.egress.plugins.filter.egress_explain import egress_explain
from ansible_collections.palisade.egress.plugins.filter.egress_policy import egress_policy
from ansible_collections.palisade.egress.plugins.filter.egress_verdict import egress_verdict

DOCUMENTED = {
    name: yaml.safe_load((ROOT / "plugins" / "filter" / f"{name}.yml").read_text(encoding="utf-8"))
    for name in ("egress_verdict", "egress_compare", "egress_explain")
}
EXAMPLES = [example for text in DOCUMENTED.values() for example in yaml.safe_load(text["EXAMPLES"])]
ALL = {"all": list(HOSTS), **GROUPS}
PACKET = {"from": "198.51.100.11", "to": "203.0.113.10", "protocol": "tcp", "port": 25}
LIMITED = {"name": "a", "chain": "output", "action": "accept", "limit": {"rate": "1/second"}}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_examples_run(example: dict[str, object], tmp_path: Path) -> None:
    code, output = run_play(tmp_path, LAB, {"tasks": [example]})
    assert code == 0, output


def policy(host: str = "web1") -> dict[str, Any]:
    return egress_policy(site(), GROUPS)[host]


def described(name: str) -> str:
    return " ".join(DOCUMENTED[name]["RETURN"]["_value"]["description"])


def test_documented_keys_are_those_that_they_return() -> None:
    answers = {
        "egress_verdict": egress_verdict(policy(), PACKET),
        "egress_compare": egress_compare(policy(), policy("mail1")),
        "egress_explain": egress_explain(site(), ALL, "web1", "any", "smtp"),
    }
    answers["egress_compare"] |= answers["egress_compare"]["allowed"][0]
    answers["egress_explain"] |= answers["egress_explain"]["reasons"][0]
    for name, answer in answers.items():
        assert [key for key in answer if f"C({key})" not in described(name)] == ["change"] * (name == "egress_compare")


# what is changed of the packet: verdict, rule, origin
VERDICTS: list[tuple[dict[str, Any], tuple[str, str | None, str | None]]] = [
    ({}, ("drop", "forbid/web/smtp", "web/smtp")),
    ({"to": "198.51.100.13", "port": 5432}, ("accept", "web/postgresql", "web/postgresql")),
    ({"to": "198.51.100.53", "port": 53}, ("accept", "base/dns/tcp", "base/dns")),
    ({"to": "198.51.100.53", "port": 53, "protocol": 17}, ("accept", "base/dns/udp", "base/dns")),
    ({"port": 8080}, ("drop", None, None)),
    ({"port": 8080, "state": "established"}, ("accept", "always/established", None)),
    ({"port": 8080, "out_interface": "lo"}, ("accept", "always/loopback", None)),
    ({"source_type": "unicast"}, ("drop", "always/spoofed-source", None)),
    ({"chain": "input", "to": "198.51.100.11"}, ("accept", None, None)),
    ({"chain": "input", "tcp_flags": ["ack"]}, ("drop", "always/no-syn", None)),
]


@pytest.mark.parametrize(("change", "expected"), VERDICTS, ids=str)
def test_verdict(change: dict[str, Any], expected: tuple[str, str | None, str | None]) -> None:
    answer = egress_verdict(policy(), {**PACKET, **change})
    assert (answer["verdict"], answer["rule"], answer["origin"]) == expected


def test_verdict_tells_that_a_limit_leaves_it_open() -> None:
    ruleset = {"rules": [LIMITED], "chains": {"output": {"default": "drop"}}}
    answer = egress_verdict(ruleset, PACKET)
    assert (answer["verdict"], answer["limited"], answer["matched"]) == ("accept", True, ["a"])


def test_witnesses_get_the_verdicts_that_compare_tells() -> None:
    before, after = policy("web1"), policy("mail1")
    difference = egress_compare(before, after)
    for flow in difference["allowed"] + difference["denied"]:
        for ruleset, told in ((before, flow["before"]), (after, flow["after"])):
            found = egress_verdict(ruleset, flow["witness"])
            assert {key: found[key] for key in told} == told
    assert difference["allowed"]
    assert difference["denied"]


def test_compare_of_equals_is_empty() -> None:
    assert egress_compare(policy(), policy())["text"] == "Nothing changes"


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ([LIMITED], [{"name": "a", "chain": "output", "action": "accept"}], "unlimited"),
        ([{"name": "a", "chain": "output", "action": "accept"}], [LIMITED], "limited"),
        ([], [LIMITED], "allowed"),
        ([LIMITED], [], "denied"),
        ([LIMITED], [{**LIMITED, "name": "b"}], None),
    ],
)
def test_compare_of_limits(before: list[Any], after: list[Any], kind: str | None) -> None:
    chains = {"output": {"default": "drop"}}
    difference = egress_compare({"rules": before, "chains": chains}, {"rules": after, "chains": chains})
    assert [key for key, flows in difference.items() if key != "text" and flows] == ([kind] if kind else [])


# what the inventory adds for web1, question, verdict, what stands in the remedies, and what does not
EXPLAINED: list[tuple[dict[str, Any], tuple[Any, Any], str, list[str], list[str]]] = [
    ({}, ("203.0.113.10", "smtp"), "denied", ["waivers__web1", "forbid: web/smtp", "allow__web1"], []),
    ({}, ("203.0.113.10", "https"), "denied", ["allow__web1", "service: https"], ["waivers"]),
    ({}, ("db1", "postgresql"), "allowed", [], ["allow"]),
    ({}, ("any", "postgresql"), "partly allowed", ["allow__web1"], ["waivers"]),
    ({}, ("group:database", "tcp/5432,3306"), "allowed", [], ["allow"]),
    ({}, ("group:database", "tcp/5432-5433"), "partly allowed", ['"5432-5433"'], ["waivers"]),
    (
        {"egress_firewall_allow__web1": [{"service": {"protocol": "tcp", "ports": ["1-100"]}, "to": "any"}]},
        ("203.0.113.10", "smtp"),
        "denied",
        ["waivers__web1"],
        ["allow"],
    ),
]


@pytest.mark.parametrize(("variables", "question", "verdict", "there", "absent"), EXPLAINED, ids=str)
def test_explain(
    variables: dict[str, Any], question: tuple[Any, Any], verdict: str, there: list[str], absent: list[str]
) -> None:
    hostvars = site()
    hostvars["web1"] |= variables
    answer = egress_explain(hostvars, ALL, "web1", *question)
    remedies = "\n".join(answer["remedies"])
    assert answer["verdict"] == verdict
    assert [words for words in there if words not in remedies] == []
    assert [words for words in absent if words in remedies] == []


def test_what_is_said_to_allow_it_does() -> None:
    hostvars = site()
    remedies = egress_explain(hostvars, ALL, "web1", "203.0.113.10", "smtp")["remedies"]
    hostvars["web1"] |= yaml.safe_load("\n".join(remedies).replace("…", "a ticket"))
    assert egress_explain(hostvars, ALL, "web1", "203.0.113.10", "smtp")["verdict"] == "allowed"


def test_explain_names_the_place() -> None:
    reasons = egress_explain(site(), ALL, "web1", "203.0.113.10", "smtp")["reasons"]
    assert [(reason["origin"], reason["place"]) for reason in reasons] == [
        ("web/smtp", "shipped profiles.web.forbids[0]")
    ]


BAD: list[tuple[Any, str]] = [
    (lambda: egress_verdict([], PACKET), "policy: it has no 'rules'"),
    (lambda: egress_verdict(policy(), []), "packet: a list stands where a mapping belongs"),
    (lambda: egress_verdict(policy(), {**PACKET, "dport": 1}), "packet: unknown key 'dport'"),
    (lambda: egress_verdict(policy(), {"from": "192.0.2.1"}), "packet: the packet has no 'to'"),
    (lambda: egress_verdict(policy(), {**PACKET, "to": "2001:db8::1"}), "packet: 'from' and 'to' are of different"),
    (lambda: egress_verdict(policy(), {**PACKET, "to": "192.0.2.0/24"}), "packet.to: a packet has one address"),
    (lambda: egress_verdict(policy(), {**PACKET, "to": 4}), "packet.to: 4 is not text"),
    (lambda: egress_verdict(policy(), {**PACKET, "port": "x"}), "packet.port: 'x' is not a port"),
    (lambda: egress_verdict(policy(), {**PACKET, "protocol": "icmp"}), "packet.port: icmp has no ports"),
    (lambda: egress_verdict(policy(), {**PACKET, "chain": "out"}), "packet.chain: 'out' is not possible here"),
    (lambda: egress_verdict(policy(), {**PACKET, "state": "NEW"}), "packet.state: 'NEW' is not possible here"),
    (lambda: egress_verdict(policy(), {**PACKET, "time": "now"}), "packet.time: 'now' is not a time in UTC"),
    (lambda: egress_verdict(policy(), {**PACKET, "tcp_flags": "syn"}), "packet.tcp_flags: 'syn' stands where a list"),
    (lambda: egress_verdict({"rules": [{}]}, PACKET), "rules[0].name: is missing"),
    (lambda: egress_compare({}, policy()), "before: it has no 'rules'"),
    (lambda: egress_compare(policy(), {"rules": 3}), "rules: must be a list"),
    (lambda: egress_explain(site(), ALL, "web9", "any", "smtp"), "from: there is no host 'web9'"),
    (lambda: egress_explain(site(), ALL, 4, "any", "smtp"), "from: there is no host the number 4"),
    (lambda: egress_explain(site(), ALL, "web1", "moon", "smtp"), "to: unknown network 'moon'"),
    (
        lambda: egress_explain(site(), ALL, "web1", "any", "smpt"),
        "service: unknown service 'smpt'. Did you mean 'smtp'?",
    ),
    (lambda: egress_explain(site(), ALL, "web1", "any", "tcp/x"), "service.ports: 'x' is not a port"),
    (lambda: egress_explain(site(), ALL, "web1", "web1", "smtp"), "to: no packet that leaves the host goes there"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _call, message in BAD])
def test_errors_are_filter_errors(call: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        call()
    assert str(caught.value).startswith(message)
