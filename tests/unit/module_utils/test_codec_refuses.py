# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Malformed rules and chains: each gives one error, on one line, that names the rule and the option."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError

Plain = dict[str, Any]

WEB: Plain = {"name": "web", "chain": "output", "action": "accept"}
GARBAGE = "x" * 2**20

# What a text, a list, a dictionary can never be.
NO_TEXT = [None, True, 1.5, [], ["x"], {}, {"x": "y"}]
NO_LIST = [None, True, 7, 1.5, "", "x", {}, {"x": "y"}, []]
NO_DICTIONARY = [None, True, 7, 1.5, "", "x", [], ["x"], {}]
# What can be no word of any list.
NO_WORD = ["", " ", "x y", "accept;", "$(reboot)", "{ accept }", 'a"b', "a\nb", "a\0b", "é", GARBAGE]
NO_ELEMENT = [[value] for value in (None, True, 1.5, [], {}, *NO_WORD)]

# By option: what else the rule needs to be right, and the values that are wrong.
VALUES: dict[str, tuple[Plain, list[Any]]] = {
    "name": ({}, [*NO_TEXT, 7, "", " web", "web ", 'we"b', "we\\b", "we\nb", "we\tb", "wéb", "we\0b", "we\u2028b",
                  "a # b",
                  "a #", "#", "#web", "palisade/x", "x" * 129, GARBAGE, '" drop #', 'x" ; flush ruleset']),
    "chain": ({}, [*NO_TEXT, 7, *NO_WORD, "OUTPUT", "output ", "out-put", "own/web", "postrouting x", "x" * 21]),
    "action": ({}, [*NO_TEXT, 7, *NO_WORD, "ACCEPT", "allow", "deny", "goto", "continue", "queue"]),
    "target": ({"action": "jump"}, [*NO_TEXT, *NO_WORD, "Web", "own/web", "x" * 21]),
    "family": ({}, [*NO_TEXT, 4, 6, *NO_WORD, "inet", "IPv4", "v4", "both"]),
    "protocol": ({}, [*NO_TEXT, *NO_WORD, -1, 256, 1.0, "256", "1000", "+6", "6.0", "\u0666", "TCP", "tcp,udp",
                      "any", "!tcp"]),
    "source": ({}, [*NO_LIST, *NO_ELEMENT, [7], ["any"], ["example.org"], ["198.51.100"], ["198.51.100.256"],
                    ["198.51.100.0/33"], ["198.51.100.0/-1"], ["198.51.100.0/"], ["198.51.100.0/24/24"], ["/24"],
                    ["198.51.100.1/24"], ["198.51.100.0/255.255.255.0"], ["198.51.100.0-198.51.100.9"],
                    ["198.51.100.0 /24"], ["2001:db8::1/32"], ["2001:db8::/129"], ["2001:db8:::"], ["fe80::1%eth0"],
                    ["[2001:db8::]"], ["!198.51.100.0/24"], ["198.51.100.0/\u0662"], ["198.51.100.1", "x"]]),
    "destination": ({}, [*NO_LIST, [None], [""], ["any"], ["198.51.100.1/24"], ["2001:db8::1/32"]]),
    "source_type": ({}, [*NO_TEXT, 7, *NO_WORD, "LOCAL", "not local", "!local", "not:", "not:not:local", "private"]),
    "destination_type": ({}, [*NO_TEXT, "LOCAL", "not:", "broadcast,local"]),
    "reverse_path": ({}, [*NO_TEXT, 7, "STRICT", "yes", ""]),
    "source_ports": ({"protocol": "udp"}, [*NO_LIST, *NO_ELEMENT, [-1], [65536], ["65536"], ["70000"], ["22-21"],
                     ["0-65536"], ["http"], ["22,23"], ["22:23"], ["22-"], ["-22"], ["1-2-3"], ["\u0662"], ["+22"],
                     [" 22"],
                     ["22\n"], ["0x16"], ["000022"]]),
    "destination_ports": ({"protocol": "tcp"}, [*NO_LIST, [70000], ["9000-8000"], ["https"], [22, "x"]]),
    "tcp_flags": ({"protocol": "tcp"}, [*NO_DICTIONARY, {"set": ["syn"]}, {"mask": []}, {"mask": "syn"},
                                        {"mask": ["xyz"]},
                  {"mask": ["SYN"]}, {"mask": ["syn"], "set": []}, {"mask": ["syn"], "set": ["ack"]},
                  {"mask": ["syn"], "set": "syn"}, {"mask": ["syn"], "sett": ["syn"]}, {"mask": None}, {7: ["syn"]}]),
    "icmp_type": ({"protocol": "icmp"}, [*NO_LIST, *NO_ELEMENT, [-1], [256], ["256"], ["ping"], ["packet-too-big"],
                                         ["+8"]]),
    "in_interface": ({"chain": "input"}, [*NO_LIST, *NO_ELEMENT, ["eth*"], ["x" * 16], ["a/b"], ["@x,y"], ["!eth0"]]),
    "out_interface": ({}, [*NO_LIST, ["eth+"], ["x" * 16], ['lo" accept']]),
    "ctstate": ({}, [*NO_LIST, *NO_ELEMENT, ["NEW"], ["new,established"], ["dnat"], ["new", "x"], [1]]),
    "ct_direction": ({}, [*NO_TEXT, 0, "", "ORIGINAL", "both"]),
    "uid_owner": ({}, [*NO_LIST, *NO_ELEMENT, [-1], [2**32 - 1], ["4294967295"], ["99999999999"], ["-x"], ["a:b"]]),
    "gid_owner": ({}, [*NO_LIST, [2**32 - 1], ["x" * 65], ["a/b"]]),
    "cgroup": ({}, [*NO_LIST, *NO_ELEMENT, ["x" * 201], ["a b"]]),
    "limit": ({}, [*NO_DICTIONARY, {"burst": 5}, {"rate": None}, {"rate": 5}, {"rate": ""}, {"rate": "5"},
                   {"rate": "5/s"},
              {"rate": "0/second"}, {"rate": "-5/second"}, {"rate": "5/week"}, {"rate": "5 / second"},
              {"rate": "5/second "},
              {"rate": "2147483648/second"}, {"rate": "1.5/second"}, {"rate": "\u0665/second"}, {"rate": GARBAGE},
              {"rate": "5/second", "burst": 0}, {"rate": "5/second", "burst": -1}, {"rate": "5/second", "burst": "5"},
              {"rate": "5/second", "burst": 65536}, {"rate": "5/second", "burst": True}, {"rate": "5/second",
              "burst": None},
              {"rate": "5/second", "per": "port"}, {"rate": "5/second", "per": None}, {"rate": "5/second",
              "mode": "at"},
              {"rate": "5/second", "brust": 5}]),
    "log": ({}, [*NO_DICTIONARY, {"group": 5}, {"prefix": None}, {"prefix": ""}, {"prefix": 7}, {"prefix": "x" * 29},
            {"prefix": 'a"b'}, {"prefix": "a\\b"}, {"prefix": "a\nb"}, {"prefix": "é"}, {"prefix": "$x"},
            {"prefix": GARBAGE},
            {"prefix": "x", "group": -1}, {"prefix": "x", "group": 65536}, {"prefix": "x", "group": "5"},
            {"prefix": "x", "group": None}, {"prefix": "x", "group": True}, {"prefix": "x", "rate": "5"},
            {"prefix": "x", "rate": None}, {"prefix": "x", "level": "debug"}]),
    "reject_with": ({"action": "reject"}, [*NO_TEXT, 7, *NO_WORD, "icmp", "tcp reset", "icmpv6-no-route"]),
    "expires": ({}, [*NO_TEXT, 7, "", "tomorrow", "2027-01-31", "2027-01-31T00:00:00", "2027-01-31T00:00:00+01:00",
                "2027-01-31 00:00:00Z", "2027-02-30T00:00:00Z", "2027-13-01T00:00:00Z", "2027-01-31T24:00:00Z",
                "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "2027-01-31T00:00:00Z\n",
                "\u0662027-01-31T00:00:00Z", GARBAGE]),
    "comment": ({}, [*NO_TEXT, 7, " x", "x ", 'a"b', "a\\b", "a\nb", "é", "a # b", "a #", "x" * 123, GARBAGE]),
    "dispatch": ({"action": "dispatch"}, [*NO_DICTIONARY, {"source": {}}, {"source": None}, {"source": []},
                 {"source": {"198.51.100.1": "x"}, "destination": {"198.51.100.1": "x"}},
                 {"src": {"198.51.100.1": "x"}},
                 {"source": {"any": "x"}}, {"source": {7: "x"}}, {"source": {None: "x"}},
                 {"source": {"198.51.100.1/24": "x"}},
                 {"source": {"198.51.100.1": None}}, {"source": {"198.51.100.1": ["x"]}},
                 {"source": {"198.51.100.1": "X"}},
                 {"source": {"198.51.100.1": "output"}}, {"source": {"198.51.100.1": "x; drop"}},
                 {"source": {"198.51.100.0/24": "x", "198.51.100.7": "y"}}, {"source": {"::/0": "x", "::1": "y"}}]),
}  # fmt: skip

# Options that are right by themselves and do not go with the rest of the rule.
TOGETHER: list[tuple[str, Plain]] = [
    ("target", {"action": "jump"}),
    ("target", {"target": "web"}),
    ("target", {"action": "jump", "target": "input"}),
    ("dispatch", {"action": "dispatch"}),
    ("dispatch", {"dispatch": {"source": {"198.51.100.1": "x"}}}),
    ("log", {"action": "log"}),
    ("reject_with", {"reject_with": "icmp-port-unreachable"}),
    ("reject_with", {"action": "drop", "reject_with": "icmp-port-unreachable"}),
    ("reject_with", {"action": "reject", "reject_with": "tcp-reset"}),
    ("reject_with", {"action": "reject", "reject_with": "tcp-reset", "protocol": "udp"}),
    ("source_ports", {"source_ports": [22]}),
    ("source_ports", {"source_ports": [22], "protocol": "icmp"}),
    ("source_ports", {"source_ports": ["0-65535", 22]}),
    ("destination_ports", {"destination_ports": ["0-65535"], "protocol": "icmp"}),
    ("destination_ports", {"destination_ports": [22]}),
    ("destination_ports", {"destination_ports": [22], "protocol": "gre"}),
    ("destination_ports", {"destination_ports": [22], "protocol": 50}),
    ("tcp_flags", {"tcp_flags": {"mask": ["syn"]}}),
    ("tcp_flags", {"tcp_flags": {"mask": ["syn"]}, "protocol": "udp"}),
    ("icmp_type", {"icmp_type": ["echo-request"]}),
    ("icmp_type", {"icmp_type": ["echo-request"], "protocol": "tcp"}),
    ("icmp_type", {"icmp_type": ["redirect"], "protocol": "icmpv6"}),
    ("protocol", {"family": "ipv6", "protocol": "icmp"}),
    ("protocol", {"family": "ipv4", "protocol": "ipv6-icmp"}),
    ("protocol", {"family": "ipv4", "protocol": 58}),
    ("source", {"family": "ipv4", "source": ["2001:db8::1"]}),
    ("source", {"family": "ipv4", "source": ["198.51.100.1", "2001:db8::1"]}),
    ("source", {"family": "ipv6", "source": ["198.51.100.1"]}),
    ("source", {"protocol": "icmp", "source": ["2001:db8::1"]}),
    ("source", {"protocol": "icmpv6", "source": ["198.51.100.1"]}),
    ("destination", {"family": "ipv6", "destination": ["0.0.0.0/0"]}),
    ("destination", {"source": ["198.51.100.1"], "destination": ["2001:db8::1"]}),
    ("dispatch", {"family": "ipv6", "action": "dispatch", "dispatch": {"source": {"198.51.100.1": "x"}}}),
    ("dispatch", {"source": ["::1"], "action": "dispatch", "dispatch": {"source": {"198.51.100.1": "x"}}}),
    ("action", {"action": "return"}),
    ("name", {"name": "x" * 129}),
    ("comment", {"name": "x" * 100, "comment": "y" * 26}),
]

# Options that mean nothing where the rule stands.
PLACES: list[tuple[str, Plain]] = [
    ("in_interface", {"in_interface": ["lo"]}),
    ("out_interface", {"chain": "input", "out_interface": ["lo"]}),
    ("out_interface", {"chain": "prerouting", "out_interface": ["lo"]}),
    ("uid_owner", {"chain": "input", "uid_owner": ["root"]}),
    ("uid_owner", {"chain": "forward", "uid_owner": ["root"]}),
    ("gid_owner", {"chain": "prerouting", "gid_owner": ["root"]}),
    ("cgroup", {"chain": "input", "cgroup": ["system.slice"]}),
    ("reverse_path", {"reverse_path": "strict"}),
    ("reject_with", {"chain": "prerouting", "action": "reject"}),
]

# Keys that no rule has, and the word that the error proposes.
KEYS: list[tuple[Any, str]] = [
    ("dst", ""), ("destnation", "destination"), ("Source", "source"), ("ports", ""), ("destination_port",
    "destination_ports"),
    ("user", ""), ("uid", ""), ("ct_state", "ctstate"), ("jump", ""), ("state", "ctstate"), ("", ""), (7, ""), (None,
    ""), (True, ""),
    ("name ", "name"), ("in-interface", "in_interface"), ("$(reboot)", ""), ("a\nb", ""), (GARBAGE, ""),
]  # fmt: skip

# Whole parameters: where the error is, rules, chains.
RULESETS: list[tuple[str, Any, Any]] = [
    *(("rules", wrong, {}) for wrong in (None, True, 7, "", "x", {}, {"name": "web"})),
    *(("rules[0]", [wrong], {}) for wrong in (None, True, 7, "", "x", [], GARBAGE)),
    ("rules[1]", [WEB, ["x"]], {}),
    ("rules[0].name", [{}], {}),
    ("rules[0].name", [{"chain": "output", "action": "accept"}], {}),
    ("rule 'web' (rules[0]).chain", [{"name": "web", "action": "accept"}], {}),
    ("rule 'web' (rules[0]).action", [{"name": "web", "chain": "output"}], {}),
    *(("chains", [], wrong) for wrong in (None, True, 7, "", "x", [], ["output"], GARBAGE)),
    *(("chains", [], {wrong: {}}) for wrong in ("", "Output", "out put", 7, None, "x" * 21, "a\nb", GARBAGE)),
    *(("chains.output", [], {"output": wrong}) for wrong in (None, True, 7, "", "drop", [], ["drop"])),
    *(("chains.output", [], {"output": {wrong: "x"}}) for wrong in ("", "defualt", "policy", "a\nb", 7, None,
    GARBAGE)),
    *(("chains.output.default", [], {"output": {"default": wrong}}) for wrong in (*NO_TEXT, "", "DROP", "log",
    "jump")),
    *(("chains.output.priority", [], {"output": {"priority": wrong}})
      for wrong in (None, True, 1.5, "", "0", "first", 1001, -1001, [], {}, 2**64)),
    *(("chains.output.reject_with", [], {"output": {"default": "reject", "reject_with": wrong}})
      for wrong in (*NO_TEXT, "", "drop", "icmp")),
    ("chains.output.reject_with", [], {"output": {"reject_with": "tcp-reset"}}),
    ("chains.output.reject_with", [], {"output": {"default": "drop", "reject_with": "tcp-reset"}}),
    ("chains.prerouting.default", [], {"prerouting": {"default": "reject"}}),
    ("chains.web", [], {"web": {"default": "drop"}}),
    ("chains.web", [], {"web": {"priority": 0}}),
    ("chains.web", [], {"web": {}}),
    ("chains.otuput", [], {"otuput": {}}),
    ("rule 'web' in output.name", [WEB, WEB], {}),
    ("rule 'web' in output.name", [WEB, {**WEB, "name": "x"}, {**WEB, "action": "drop"}], {}),
    ("rule 'web' in outptu.chain", [{**WEB, "chain": "outptu"}], {}),
    ("rule 'web' in postrouting.chain", [{**WEB, "chain": "postrouting"}], {}),
    ("rule 'web' in output.jump", [{**WEB, "action": "jump", "target": "nowhere"}], {}),
    ("rule 'web' in output.dispatch",
     [{**WEB, "action": "dispatch", "dispatch": {"source": {"198.51.100.1": "nowhere"}}}], {}),
    ("chain 'a'", [{**WEB, "chain": "a", "action": "jump", "target": "a"}], {}),
    ("chain 'a'", [{**WEB, "action": "jump", "target": "a"}, {**WEB, "chain": "a", "action": "jump", "target": "b"},
                   {**WEB, "chain": "b", "action": "jump", "target": "a"}], {}),
    ("chain 'a'", [{**WEB, "chain": "a", "action": "dispatch", "dispatch": {"source": {"198.51.100.1": "a"}}}], {}),
    ("rule 'web' in a.chain", [{**WEB, "chain": "a", "action": "jump", "target": "b"}, {**WEB, "chain": "b"}], {}),
    ("rule 'x' in a.in_interface", [{**WEB, "action": "jump", "target": "a"},
                                    {**WEB, "name": "x", "chain": "a", "in_interface": ["lo"]}], {}),
    ("rule 'x' in a.uid_owner", [{**WEB, "action": "jump", "target": "a"},
                                 {**WEB, "chain": "input", "action": "jump", "target": "a"},
                                 {**WEB, "name": "x", "chain": "a", "uid_owner": ["root"]}], {}),
]  # fmt: skip

SINGLE = [(option, {**needed, option: value}) for option, (needed, values) in VALUES.items() for value in values]


def refusal(rules: Any, chains: Any) -> RuleError:
    """Return the error that these give, having looked at its form."""
    with pytest.raises(RuleError) as caught:
        decode(rules, chains)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 700
    assert message == f"{caught.value.where}: {caught.value.what}. {message.rpartition('. ')[2]}"
    return caught.value


def identified(case: tuple[Any, ...]) -> str:
    return " ".join(repr(part)[:40] for part in case)


@pytest.mark.parametrize("case", SINGLE, ids=identified)
def test_values(case: tuple[str, Plain]) -> None:
    option, options = case
    where = refusal([{**WEB, **options}], {}).where
    if option == "name":
        assert where.startswith(("rule '", 'rule "', "rules[0]"))
        assert where.endswith("rules[0].name") or where.endswith("(rules[0]).name")
    else:
        assert where == f"rule 'web' (rules[0]).{option}"


@pytest.mark.parametrize("case", TOGETHER, ids=identified)
def test_options_that_do_not_go_together(case: tuple[str, Plain]) -> None:
    option, options = case
    assert refusal([{**WEB, **options}], {"x": {}}).where.endswith(f" (rules[0]).{option}")


@pytest.mark.parametrize("case", PLACES, ids=identified)
def test_options_that_mean_nothing_there(case: tuple[str, Plain]) -> None:
    option, options = case
    assert refusal([{**WEB, **options}], {}).where == f"rule 'web' in {options.get('chain', 'output')}.{option}"


@pytest.mark.parametrize("case", KEYS, ids=identified)
def test_keys(case: tuple[Any, str]) -> None:
    key, proposal = case
    error = refusal([{**WEB, key: "x"}], {})
    assert error.where == "rule 'web' (rules[0])"
    assert error.what.startswith("has no option ")
    assert error.mend.startswith(f"did you mean {proposal!r}" if proposal else "the options are name, chain, action")


@pytest.mark.parametrize("case", RULESETS, ids=identified)
def test_parameters(case: tuple[str, Any, Any]) -> None:
    where, rules, chains = case
    assert refusal(rules, chains).where == where


def test_jumps_nest_only_so_deep() -> None:
    jumps = [{**WEB, "chain": f"c{n}", "action": "jump", "target": f"c{n + 1}"} for n in range(14)]
    entrance = {**WEB, "action": "jump", "target": "c0"}
    decode([entrance, *jumps[:-1]], {"c13": {}})
    assert refusal([entrance, *jumps], {"c14": {}}).where == "chain 'output'"


def test_there_are_hundreds() -> None:
    assert len(SINGLE) + len(TOGETHER) + len(PLACES) + len(KEYS) + len(RULESETS) > 600
