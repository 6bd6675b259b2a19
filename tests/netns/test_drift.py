# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody changes our table by hand: check mode sees it and touches nothing, one run repairs it."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import pytest
from netns.namespace import Namespace
from property.strategies import PlainRuleset, for_samples, rulesets

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge

MANY = [f"198.51.100.{2 * number}" for number in range(10)]
BRANCHES = {f"203.0.113.{2 * number}": "web" for number in range(10)}
WANTED = decode(
    [
        {"name": "lo", "chain": "output", "action": "accept", "out_interface": ["lo"]},
        {"name": "dns", "chain": "output", "action": "accept", "protocol": "udp", "destination_ports": ["53", "853"],
         "destination": ["192.0.2.1", "192.0.2.7", "2001:db8::1"]},
        {"name": "many", "chain": "output", "action": "drop", "destination": MANY, "log": {"prefix": "many "}},
        {"name": "slow", "chain": "output", "action": "accept", "family": "ipv4", "protocol": "tcp",
         "ctstate": ["new", "related"], "limit": {"rate": "5/second", "per": "source"}},
        {"name": "few", "chain": "output", "action": "drop", "limit": {"rate": "5/second"}, "log": {"prefix": "few "}},
        {"name": "by", "chain": "forward", "action": "dispatch", "dispatch": {"source": BRANCHES}},
        {"name": "to web", "chain": "forward", "action": "jump", "target": "web"},
        {"name": "logged", "chain": "web", "action": "drop", "log": {"prefix": "web ", "rate": "1/second"}},
    ],
    {"output": {"default": "reject"}, "forward": {"default": "drop"}, "input": {"default": "accept"}},
)  # fmt: skip

# What somebody types, with the table left out; {chain:comment} is the handle of a rule.
BY_HAND = {
    "a rule is removed": "delete rule T output handle {output:dns}",
    "one line of a rule is removed": "delete rule T output handle {output:dns:1}",
    "the first rule is removed": "delete rule T output handle {output:lo}",
    "the line that logs is removed": "delete rule T own/web handle {own/web:logged}",
    "the rule of the default is removed": "delete rule T output handle {output:palisade/default}",
    "the rule of a drop is removed": "delete rule T forward handle {forward:palisade/default}",
    "a rule without a comment is added": "add rule T output accept",
    "a rule is put first": "insert rule T output accept",
    "a rule with a new name is added": 'insert rule T output accept comment "mine"',
    "a rule is called like a default in a chain that has none": "add counter T own/web/palisade/default\n"
    'add rule T own/web counter name "own/web/palisade/default" accept comment "palisade/default"',
    "a rule is called like a default of another kind": "add counter T output/palisade/default/x\n"
    'insert rule T output counter name "output/palisade/default/x" accept comment "palisade/default/x"',
    "a rule is called like the one for midstream": "add counter T output/palisade/midstream\n"
    'insert rule T output counter name "output/palisade/midstream" accept comment "palisade/midstream"',
    "the rule of the default comes first": "delete rule T output handle {output:palisade/default}\n"
    'insert rule T output counter name "output/palisade/default" reject comment "palisade/default"',
    "the rule of the default is there, and the default accepts": "add counter T input/palisade/default\n"
    'add rule T input counter name "input/palisade/default" drop comment "palisade/default"',
    "a rule is there twice": 'add rule T output oifname "lo" counter name "output/lo" accept comment "lo"',
    "a rule is added to an empty chain": "add rule T input drop",
    "a rule is added to a chain of ours": "insert rule T own/web return",
    "a rule has another verdict": 'replace rule T output handle {output:lo} oifname "lo" counter name "output/lo" drop'
    ' comment "lo"',
    "a rule has another match": 'replace rule T output handle {output:lo} oifname "x" counter name "output/lo" accept'
    ' comment "lo"',
    "a rule has one match more": 'replace rule T output handle {output:lo} oifname "lo" ip ttl 5'
    ' counter name "output/lo" accept comment "lo"',
    "a rule has no comment": 'replace rule T output handle {output:lo} oifname "lo" counter name "output/lo" accept',
    "a rule has another comment": 'replace rule T output handle {output:lo} oifname "lo" counter name "output/lo"'
    ' accept comment "lo # x"',
    "a rule does not count": 'replace rule T output handle {output:lo} oifname "lo" accept comment "lo"',
    "a rule counts elsewhere": 'replace rule T output handle {output:lo} oifname "lo" counter name "output/dns" accept'
    ' comment "lo"',
    "a rule counts by itself": 'replace rule T output handle {output:lo} oifname "lo" counter accept comment "lo"',
    "a list in a rule is shorter": "replace rule T output handle {output:dns} ip daddr 192.0.2.1 udp dport { 53, 853 }"
    ' counter name "output/dns" accept comment "dns"',
    "a list of states matches no packet": "replace rule T output handle {output:slow} ct state == (new | related)"
    ' meta l4proto 6 meta nfproto ipv4 add @output/slow/rate4 { ip saddr limit rate 5/second burst 5 packets }'
    ' counter name "output/slow" accept comment "slow"',
    "a limit is higher": "replace rule T output handle {output:slow} meta nfproto ipv4 meta l4proto 6"
    " ct state new,related add @output/slow/rate4 { ip saddr limit rate 6/second burst 5 packets }"
    ' counter name "output/slow" accept comment "slow"',
    "a limit is about another address": "replace rule T output handle {output:slow} meta nfproto ipv4 meta l4proto 6"
    " ct state new,related add @output/slow/rate4 { ip daddr limit rate 5/second burst 5 packets }"
    ' counter name "output/slow" accept comment "slow"',
    "a rule logs before its limit": 'replace rule T output handle {output:few} log prefix "few "'
    ' limit rate 5/second burst 5 packets counter name "output/few" drop comment "few"',
    "a rule counts before its limit": 'replace rule T output handle {output:few} counter name "output/few"'
    ' limit rate 5/second burst 5 packets log prefix "few " drop comment "few"',
    "a rule logs otherwise": "replace rule T output handle {output:few} limit rate 5/second burst 5 packets"
    ' counter name "output/few" log prefix "few " level debug drop comment "few"',
    "a reject says something else": "replace rule T output handle {output:palisade/default}"
    ' counter name "output/palisade/default" reject with icmpx admin-prohibited comment "palisade/default"',
    "rules have changed places": "delete rule T output handle {output:lo}\n"
    'add rule T output oifname "lo" counter name "output/lo" accept comment "lo"',
    "an element is added to a set": "add element T output/many/to4 { 192.0.2.99 }",
    "an element is removed from a set": "delete element T output/many/to4 { 198.51.100.4 }",
    "a set is flushed": "flush set T output/many/to4",
    "a branch is added": "add element T forward/by/by4 { 192.0.2.99 : jump own/web }",
    "a branch accepts": "delete element T forward/by/by4 { 203.0.113.4 }\n"
    "add element T forward/by/by4 { 203.0.113.4 : accept }",
    "a branch is removed": "delete element T forward/by/by4 { 203.0.113.4 }",
    "a map is flushed": "flush map T forward/by/by4",
    "the policy accepts": "add chain T output { type filter hook output priority 0; policy accept; }",
    "the policy drops": "add chain T input { type filter hook input priority 0; policy drop; }",
    "the chain is flushed": "flush chain T output",
    "a chain of ours is flushed": "flush chain T own/web",
    "the priority is another": "delete chain T input\nadd chain T input { type filter hook input priority 10; }",
    "the hook is another": "delete chain T input\nadd chain T input { type filter hook prerouting priority 0; }",
    "a chain does not see packets": "delete chain T input\nadd chain T input",
    "a chain is removed": "delete chain T input",
    "a base chain is added": "add chain T prerouting { type filter hook prerouting priority 0; policy drop; }",
    "a foreign base chain is added": "add chain T mine { type filter hook output priority -10; policy drop; }",
    "a nat chain is added": "add chain T mine { type nat hook postrouting priority 100; }",
    "a chain is added": "add chain T mine",
    "a chain of nobody's is jumped to": "add chain T mine\nadd rule T mine accept\ninsert rule T output jump mine",
    "a chain is called like one of ours": "add chain T web",
    "a chain is called almost like a base chain": "add chain T own/output",
    "chains are nested in names": "add chain T own/own/web",
    "a set is added": "add set T mine { type ipv4_addr; }",
    "a set is added and used": "add set T mine { type ipv4_addr; }\ninsert rule T output ip daddr @mine accept",
    "a set of ours has a twin": "add set T output/few/to4 { type ipv4_addr; flags interval; }",
    "a set of pairs is added": "add set T mine { type ipv4_addr . inet_service; elements = { 192.0.2.1 . 22 }; }",
    "a set of marks is added": "add set T mine { type mark; }",
    "a set with comments is added": 'add set T mine { type ipv4_addr; elements = { 192.0.2.1 comment "x" }; }',
    "a map is added": "add map T mine { type ipv4_addr : verdict; elements = { 192.0.2.1 : drop }; }",
    "a map of marks is added": "add map T mine { type ipv4_addr : mark; elements = { 192.0.2.1 : 5 }; }",
    "a map to a chain of nobody's is added": "add chain T mine\n"
    "add map T minemap { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/8 : jump mine }; }",
    "a map of counters is added": "add counter T mine\n"
    'add map T mined { type ipv4_addr : counter; elements = { 192.0.2.1 : "mine" }; }',
    "a counter is added": "add counter T mine",
    "a quota is added": "add quota T mine { over 5 mbytes; }",
    "a quota is added and used": 'add quota T mine { over 5 mbytes; }\ninsert rule T output quota name "mine" drop',
    "a limit is added": "add limit T mine { rate 5/second; }",
    "a helper is added": 'add ct helper T mine { type "ftp" protocol tcp; }',
    "a timeout is added": "add ct timeout T mine { protocol tcp; policy = { established : 5 }; }",
    "the table is flushed": "flush table T",
    "the table is deleted": "delete table T",
    "the table is dormant": "add table T { flags dormant; }",
    "the table is dormant and changed": "add table T { flags dormant; }\ninsert rule T output accept",
    "the table is dormant and empty": "delete table T\nadd table T { flags dormant; }",
    "the table is empty": "delete table T\nadd table T",
    "everything is gone": "flush ruleset",
}  # fmt: skip

TABLE = "inet palisade_egress"
HANDLE = re.compile(r"\{(\S+?):([^:}]+)(?::(\d+))?\}(?= |$)", re.MULTILINE)


def listing(netns: Namespace) -> list[dict[str, Any]]:
    found = json.loads(netns.must(f"nft -j list table {TABLE}"))["nftables"]
    return [item for item in found if "metainfo" not in item]


def typed(netns: Namespace, text: str) -> str:
    """Return the commands as nft takes them."""
    rules = [item["rule"] for item in listing(netns) if "rule" in item]

    def handle(match: re.Match[str]) -> str:
        chain, comment, number = match.groups()
        handles = [rule["handle"] for rule in rules if (rule["chain"], rule.get("comment")) == (chain, comment)]
        return str(handles[int(number or 0)])

    return re.sub(r" T(?= |$)", f" {TABLE}", HANDLE.sub(handle, text), flags=re.MULTILINE)


def prove_repair(netns: Namespace, backend: Nftables, wanted: Ruleset) -> None:
    drifted = netns.everything()
    seen = converge(backend, wanted, check=True, midstream=False)
    assert seen.plan
    assert netns.everything() == drifted

    assert converge(backend, wanted, check=False, midstream=False).plan == seen.plan

    after = backend.read()
    observed = backend.observe(after)
    assert (observed.ruleset, observed.strays) == (wanted, ())
    assert backend.make_script(after, wanted) == ()
    assert converge(backend, wanted, check=False, midstream=False).plan == ()


@pytest.mark.parametrize("commands", BY_HAND.values(), ids=BY_HAND)
def test_is_repaired(commands: str, each_nft: Namespace) -> None:
    backend = Nftables(each_nft.run)
    converge(backend, WANTED, check=False, midstream=False)
    each_nft.nft(typed(each_nft, commands))
    prove_repair(each_nft, backend, WANTED)


# --- the same to rulesets of all kinds ---


def vandalisms(objects: list[dict[str, Any]]) -> list[str]:
    """Return all commands of some kinds that would change a table for the worse."""
    commands = ["flush ruleset", f"add table {TABLE} {{ flags dormant; }}", f"add counter {TABLE} mine"]
    for item in objects:
        ((kind, value),) = item.items()
        name, handle = value.get("name"), value.get("handle")
        if kind == "rule":
            commands.append(f"delete rule {TABLE} {value['chain']} handle {handle}")
            commands.append(f"insert rule {TABLE} {value['chain']} handle {handle} accept")
            commands.append(f'insert rule {TABLE} {value["chain"]} counter drop comment "{value["comment"]}"')
        elif kind == "chain":
            commands.append(f"add rule {TABLE} {name} accept")
        elif kind in ("set", "map") and "elem" in value:
            commands.append(f"flush {kind} {TABLE} {name}")
    return commands


@pytest.mark.parametrize("seed", range(4))
def test_of_any_ruleset_is_repaired(seed: int, netns: Namespace, backend: Nftables) -> None:
    random = Random(seed)

    def prove(ruleset: PlainRuleset) -> None:
        wanted = decode(*ruleset)
        converge(backend, wanted, check=False, midstream=False)
        netns.nft(random.choice(vandalisms(listing(netns))))
        prove_repair(netns, backend, wanted)

    for_samples(rulesets(), 10, seed)(prove)
