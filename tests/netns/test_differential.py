# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet by packet: what the evaluator says of random rulesets, and what the kernel does with them.

For each packet the counters of all rules, and of probes just before and just behind each of our chains, must be what
the evaluator's trace and verdict say; a sender of the router's own must be refused exactly if ``output`` does not
accept; at the end of a ruleset, what came out on both sides must be the packets that no chain stopped, and nft's
listing of the counters must show the same sums.

Covered: all four hooks, on the way in, through, and out, and over the loopback; priorities before and behind
conntrack; both families; every option but ``cgroup``; own chains three deep, dispatch by vmap and by named map; new,
established and related packets, both directions of a flow, invalid and untracked ones; routes that are asymmetric,
missing, or forbid; multicast, broadcast and anycast; IPv6 extension headers. Addresses and ports lie on the edges of
what rules match.

Not covered: fragments; NAT; refilling of limits; conntrack helpers; users' names (the backend is given numbers);
link-local destinations of the router's own packets; more than one packet in flight; what other tables do in between.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from netns._differential_net import PATIENCE, World, world
from netns._differential_packets import Sent, contexts, journey, mark_of, number, render
from netns._differential_rules import Packets, Plain, Rulesets, in_scope

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Evaluation, Packet, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._nft_render import (
    all_rules,
    counter_name,
    line_families,
)
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._options import REJECTS
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge
from ansible_collections.palisade.egress.plugins.module_utils._values import format_time

RULESETS = 20  # of a seed
PACKETS = 50  # of a ruleset
OURS, PROBES = "palisade_egress:", "palisade_probes:"


def seeds(first: int, count: int) -> list[object]:
    """Return so many seeds for every run, and ten times as many for long ones."""
    return [pytest.param(first + n, marks=[pytest.mark.long] if n >= count else []) for n in range(10 * count)]


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture(scope="module", params=["1.0.2", "1.1.3"])
def lab_with_nft(request: pytest.FixtureRequest, nft_roots: Path) -> Iterator[World]:
    with world("chroot", str(nft_roots / request.param)) as made:
        yield made


@pytest.fixture
def open_lab() -> Iterator[World]:
    """Give a world whose router speaks for itself: what it answers is seen."""
    with world() as made:
        made.router.nft("delete table inet palisade_keeper\nadd table inet palisade_keeper")
        yield made


class Buckets:
    """The limits of a ruleset as the kernel keeps them while no time passes: an oracle for the evaluator."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[object, ...]] = Counter()

    def of(self, packet: Packet) -> Callable[[Rule], tuple[bool, ...]]:
        def asked(rule: Rule) -> tuple[bool, ...]:
            assert rule.limit is not None
            address = {"source": packet.source, "destination": packet.destination}.get(rule.limit.per)
            line = packet.family if line_families(rule) != (None,) else None
            bucket = (rule.chain, rule.name, line, address)
            self.taken[bucket] += 1
            return ((self.taken[bucket] <= rule.limit.burst) == (rule.limit.mode == "under"),)

        return asked


def expected(sent: Sent, ruleset: Ruleset, buckets: Buckets) -> tuple[list[tuple[Packet, Evaluation]], Counter[str]]:
    """Return what the evaluator says in each hook that the packet comes to, and what counters must then count."""
    found = []
    counters: Counter[str] = Counter()
    for packet in contexts(sent, ruleset):
        evaluation = evaluate(ruleset, packet, buckets.of(packet))
        found.append((packet, evaluation))
        counters[f"{PROBES}before_{packet.chain}"] += 1
        counters.update(OURS + counter_name(rule) for rule in evaluation.trace)
        verdict = evaluation.verdict
        if verdict.action == "accept":
            counters[f"{PROBES}after_{packet.chain}"] += 1
            continue
        if verdict.rule is None:
            chain = ruleset.chain(packet.chain)
            tail = {rule.reject_with: rule for rule in all_rules(chain)[len(chain.rules) :]}
            counters[OURS + counter_name(tail[verdict.reject_with])] += 1
        break
    return found, counters


def probes(ruleset: Ruleset) -> str:
    """Return a table that counts what comes to each hook just before our chain, and what is left just behind it."""
    lines = ["add table inet palisade_probes", "delete table inet palisade_probes", "table inet palisade_probes {"]
    for hook in BASE_CHAINS:
        chain = ruleset.chain(hook)
        priority = chain.priority if chain else 0
        for word, shift in (("before", -1), ("after", 1)):
            lines.append(f"counter {word}_{hook} {{ }}")
            kind = f"type filter hook {hook} priority {priority + shift}; policy accept;"
            lines.append(f"chain {word}_{hook} {{ {kind} counter name {word}_{hook}; }}")
    return "\n".join([*lines, "}\n"])


class Trial:
    """One ruleset in the kernel, and packets sent through it."""

    def __init__(self, lab: World, rules: list[Plain], chains: dict[str, Plain]) -> None:
        self.lab = lab
        self.plain = (rules, chains)
        self.ruleset = decode(rules, chains)
        self.backend = Nftables(lab.run)
        self.buckets = Buckets()
        self.sums: Counter[str] = Counter()

    def send(self, sent: Sent, mark: int) -> bool:
        assert in_scope(sent), sent
        if sent.way == "out":
            return self.lab.leave(render(sent, mark), sent.device if _needs_device(sent) else "", sent.uid, sent.gid)
        self.lab.arrive(sent.way, render(sent, mark))
        return True

    def prime(self, before: list[Sent]) -> None:
        """Have conntrack see what was before."""
        start = self.lab.counts()
        wanted: Counter[str] = Counter()
        for sent in before:
            assert self.send(sent, 0), sent
            way = journey(sent)
            wanted["palisade_keeper:passed_input"] += sum(hop.hook == "input" for hop in way.hops)
            wanted["palisade_keeper:passed_postrouting"] += sent.way == "out" or way.leaves_by is not None
        found = self.lab.wait_for(+wanted, start)
        assert found == wanted, f"conntrack was not shown what it should have seen: {found} {wanted} {before}"

    def run(self, packets: list[tuple[Sent, list[Sent]]]) -> None:
        """Send packets, each after what has to come before it; fail at the first on which the two differ."""
        self.lab.router.must("conntrack -F")
        self.prime([each for _sent, before in packets for each in before])
        self.lab.router.nft(probes(self.ruleset))
        converge(self.backend, self.ruleset, check=False, midstream=False)
        for side in ("left", "right"):
            self.lab.received(side)
        received: dict[str, set[int]] = {"left": set(), "right": set()}
        for mark, (sent, _before) in enumerate(packets, 1):
            if self.one(sent, mark):
                received[journey(sent).leaves_by or ""].add(mark)
        for side, marks in received.items():
            assert {mark_of(packet) for packet in self.lab.received(side)} == marks, f"received on the {side}"
        table = self.backend.read()
        assert table is not None
        assert {name: packets for name, (packets, _bytes) in table.counts.items() if packets} == dict(self.sums)
        converge(self.backend, None, check=False, midstream=False)
        self.lab.router.nft("delete table inet palisade_probes")

    def one(self, sent: Sent, mark: int) -> bool:
        """Send one packet and compare; tell whether it is to come out again on some side."""
        found, wanted = expected(sent, self.ruleset, self.buckets)
        start = self.lab.counts()
        allowed = self.send(sent, mark)
        counted = self.lab.wait_for(self._with_keeper(wanted, sent), start)
        counted = Counter({name: n for name, n in counted.items() if not name.startswith("palisade_keeper:")})
        self.sums.update({n.removeprefix(OURS): c for n, c in counted.items() if n.startswith(OURS)})
        if counted != wanted or (sent.way == "out" and allowed != (found[0][1].verdict.action == "accept")):
            pytest.fail(self.report(sent, found, wanted, counted))
        way = journey(sent)
        passed = [evaluation.verdict.action == "accept" for _packet, evaluation in found]
        return way.leaves_by is not None and len(passed) >= way.leaves_after and all(passed[: way.leaves_after])

    def _with_keeper(self, wanted: Counter[str], sent: Sent) -> Counter[str]:
        """Return the counters wanted with those of the table that the test itself keeps."""
        way = journey(sent)
        extra = Counter(wanted)
        passed = [wanted[f"{PROBES}after_{hop.hook}"] > 0 for hop in way.hops]
        extra["palisade_keeper:passed_input"] = sum(
            ok for hop, ok in zip(way.hops, passed, strict=True) if hop.hook == "input"
        )
        leaves = all(passed[: way.leaves_after]) if way.leaves_by else sent.way == "out" and passed[0]
        looped = way.leaves_by is not None and any(hop.again for hop in way.hops)
        extra["palisade_keeper:passed_postrouting"] = leaves * (1 + looped)
        return +extra

    def report(
        self, sent: Sent, found: list[tuple[Packet, Evaluation]], wanted: Counter[str], counted: Counter[str]
    ) -> str:
        lines = ["kernel and evaluator differ", f"rules, chains = {self.plain!r}", f"sent = {sent!r}"]
        for packet, evaluation in found:
            lines.append(f"packet = {packet!r}")
            lines.append(f"evaluator: {evaluation.verdict}, by way of {[rule.name for rule in evaluation.trace]}")
        lines.append(f"only the evaluator: {dict(wanted - counted)}")
        lines.append(f"only the kernel: {dict(counted - wanted)}")
        return "\n".join(lines)


def _needs_device(sent: Sent) -> bool:
    return journey(sent).hops[0].out_interface == sent.device


def prove(lab: World, seed: int, rulesets: int) -> None:
    for ruleset in range(rulesets):
        random = Random(f"{seed}/{ruleset}")
        trial = Trial(lab, *Rulesets(random).ruleset())
        source = Packets(random, trial.ruleset)
        trial.run([source.packet() for _ in range(PACKETS)])


@pytest.mark.parametrize("seed", seeds(0, 2))
def test_random_packets(lab: World, seed: int) -> None:
    prove(lab, seed, RULESETS)


@pytest.mark.parametrize("seed", seeds(1000, 1))
def test_random_packets_with_each_version_of_nft(lab_with_nft: World, seed: int) -> None:
    prove(lab_with_nft, seed, RULESETS // 2)


# --- what the sender learns of a rejection ---

# ICMP type and code that answer in each family.
ANSWERS = {
    "icmp-port-unreachable": {"ipv4": (3, 3), "ipv6": (1, 4)},
    "icmp-net-unreachable": {"ipv4": (3, 0), "ipv6": (1, 0)},
    "icmp-host-unreachable": {"ipv4": (3, 1), "ipv6": (1, 3)},
    "icmp-admin-prohibited": {"ipv4": (3, 13), "ipv6": (1, 1)},
}
ENDS = {
    ("input", "ipv4"): ("left", "198.51.100.2", "198.51.100.1"),
    ("input", "ipv6"): ("left", "2001:db8:1::7", "2001:db8:1::1"),
    ("forward", "ipv4"): ("left", "198.51.100.2", "203.0.113.9"),
    ("forward", "ipv6"): ("left", "2001:db8:1::7", "2001:db8:2::9"),
    ("output", "ipv4"): ("out", "198.51.100.1", "198.51.100.2"),
    ("output", "ipv6"): ("out", "2001:db8:1::1", "2001:db8:1::7"),
}


# An answer to the host itself passes its output too.
LOOPBACK = {"name": "loopback", "chain": "output", "action": "accept", "out_interface": ["lo"]}


def answer(packet: bytes) -> str | tuple[int, int]:
    """Return what a packet tells whoever is rejected."""
    at, protocol = (20, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
    if protocol == 6:
        return "tcp-reset" if packet[at + 13] & 4 else "tcp"
    return (packet[at], packet[at + 1])


@pytest.mark.parametrize(("chain", "family"), ENDS)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("by_default", [False, True])
def test_rejections_reach_the_sender(open_lab: World, chain: str, family: str, protocol: str, by_default: bool) -> None:
    way, source, destination = ENDS[chain, family]
    sent = Sent(way, family, number(source), number(destination), protocol, 40000, 25, tcp_flags=("syn",))
    for reject_with in REJECTS:
        rule = {"name": "no", "chain": chain, "action": "reject", "reject_with": reject_with, "protocol": protocol}
        if by_default:
            rules, chains = [], {chain: {"default": "reject", "reject_with": reject_with}}
        elif reject_with == "tcp-reset" and protocol != "tcp":
            continue
        else:
            rules, chains = [rule], {}
        if chain == "output":
            rules.insert(0, LOOPBACK)
        trial = Trial(open_lab, rules, chains)
        converge(trial.backend, trial.ruleset, check=False, midstream=False)
        (packet,) = (each for each in contexts(sent, trial.ruleset) if each.chain == chain)
        verdict = evaluate(trial.ruleset, packet).verdict
        heard = _listen(open_lab, way)
        trial.send(sent, 1)
        wanted = verdict.reject_with if verdict.reject_with == "tcp-reset" else ANSWERS[verdict.reject_with][family]
        assert verdict.action == "reject"
        assert [answer(each) for each in heard()] == [wanted], (rules, chains)


def test_output_without_loopback_rejects_its_own_rejections(open_lab: World) -> None:
    way, source, destination = ENDS["output", "ipv4"]
    sent = Sent(way, "ipv4", number(source), number(destination), "udp", 40000, 53)
    # Rules that are about these packets only: the kernel itself has something to say at times.
    rules = [
        {"name": "question", "chain": "output", "action": "reject", "protocol": "udp", "destination_ports": ["53"]},
        {"name": "error", "chain": "output", "action": "reject", "protocol": "icmp"},
    ]
    trial = Trial(open_lab, rules, {})
    converge(trial.backend, trial.ruleset, check=False, midstream=False)
    error = Packet.between(source, source, chain="output", protocol="icmp", icmp_type="destination-unreachable",
                           out_interface="lo", ctstate="related")  # fmt: skip
    assert evaluate(trial.ruleset, error).verdict.action == "reject"
    trial.send(sent, 1)
    both = {f"{OURS}output/question": 1, f"{OURS}output/error": 1}
    assert open_lab.wait_for(both, {}) == both
    assert open_lab.looped() == []


def _listen(lab: World, way: str) -> Callable[[], list[bytes]]:
    """Return how to get the packets that come back, but for neighbours' talk; it waits for the first."""

    def drain() -> list[bytes]:
        packets = lab.looped() if way == "out" else lab.received(way)
        return [packet for packet in packets if isinstance(answer(packet), str) or answer(packet)[0] in (1, 3)]

    drain()

    def heard() -> list[bytes]:
        deadline = time.monotonic() + PATIENCE
        found = drain()
        while not found and time.monotonic() < deadline:
            found = drain()
        return found

    return heard


# --- owners and clocks as they really are ---


def counted(lab: World) -> dict[str, int]:
    """Return the packets that each rule of ours has counted."""
    return {name.removeprefix(OURS): n for name, n in lab.counts().items() if name.startswith(OURS) and n}


def test_owners_are_those_of_the_process(open_lab: World) -> None:
    rules = [
        {"name": "user", "chain": "output", "action": "log", "log": {"prefix": "x"}, "uid_owner": [1000]},
        {"name": "group", "chain": "output", "action": "log", "log": {"prefix": "x"}, "gid_owner": [1001]},
        {"name": "root", "chain": "output", "action": "log", "log": {"prefix": "x"}, "uid_owner": [0]},
    ]
    trial = Trial(open_lab, rules, {})
    converge(trial.backend, trial.ruleset, check=False, midstream=False)
    send = ["bash", "-c", "echo x >/dev/udp/198.51.100.2/53"]
    done = open_lab.router.run(["setpriv", "--reuid=1000", "--regid=1001", "--clear-groups", *send])
    assert done.code == 0, done.error
    packet = Packet.between(
        "198.51.100.1", "198.51.100.2", chain="output", protocol="udp", destination_port=53, uid="1000", gid="1001"
    )
    names = [rule.name for rule in evaluate(trial.ruleset, packet).trace]
    assert names == ["user", "group"]
    assert counted(open_lab) == {f"output/{name}": 1 for name in names}


def test_what_the_kernel_itself_sends_has_no_owner(open_lab: World) -> None:
    rules = [
        {"name": "root", "chain": "output", "action": "drop", "uid_owner": [0]},
        {"name": "any", "chain": "output", "action": "log", "log": {"prefix": "x"}, "protocol": "icmp"},
    ]
    trial = Trial(open_lab, rules, {})
    converge(trial.backend, trial.ruleset, check=False, midstream=False)
    asked = Sent("left", "ipv4", number("198.51.100.2"), number("198.51.100.1"), "icmp", icmp_type="echo-request")
    trial.send(asked, 1)
    packet = Packet.between("198.51.100.1", "198.51.100.2", chain="output", protocol="icmp", icmp_type="echo-reply")
    names = [rule.name for rule in evaluate(trial.ruleset, packet).trace]
    assert names == ["any"]
    assert open_lab.wait_for({f"{OURS}output/any": 1}, {}) == {f"{OURS}output/any": 1}


def test_a_rule_expires_to_the_second(lab: World) -> None:
    """Send packets before and behind the moment; those that the clock does not surely put on one side say nothing."""
    expires = int(time.time()) + 3
    rules = [{"name": "soon", "chain": "prerouting", "action": "drop", "expires": format_time(expires)}]
    chains = {"prerouting": {"default": "accept"}}
    sent = Sent("left", "ipv4", number("198.51.100.2"), number("198.51.100.1"), "udp", 40000, 53)
    trial = Trial(lab, rules, chains)
    lab.router.nft(probes(trial.ruleset))
    converge(trial.backend, trial.ruleset, check=False, midstream=False)
    seen = set()
    before = 0.0
    while before < expires:
        before, start = time.time(), lab.counts()
        packet = replace(contexts(sent, trial.ruleset)[0], time=before)
        action = evaluate(trial.ruleset, packet).verdict.action
        trial.send(sent, 1)
        found = _counted_once_more(lab, f"{PROBES}before_prerouting", start)
        if time.time() < expires or before >= expires:
            rule = f"{OURS}prerouting/soon"
            assert found[rule] - start[rule] == (action == "drop")
            seen.add(action)
        time.sleep(0.02)
    assert seen == {"accept", "drop"}
    converge(trial.backend, None, check=False, midstream=False)
    lab.router.nft("delete table inet palisade_probes")


def _counted_once_more(lab: World, name: str, start: Counter[str]) -> Counter[str]:
    deadline = time.monotonic() + PATIENCE
    while (found := lab.counts())[name] == start[name]:
        assert time.monotonic() < deadline, f"{name} does not count"
    return found
