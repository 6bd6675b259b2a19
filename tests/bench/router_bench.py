# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python tests/bench/router_bench.py` measures a router with many hosts behind it, in network namespaces.

How long its rules take to compile and to load, and what a flow that begins costs, beside a router that accepts all and
tracks connections, too. Prints a part of docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from netns.namespace import Namespace, namespace

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nft_script import make_script
from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

HERE = Path(__file__).resolve().parent
COLLECTIONS = HERE.parents[1] / ".cache" / "collections"
MODULE = "ansible_collections.palisade.egress.plugins.modules.egress_rule"
HOSTS, GRANTS = 1_000, 20
LOADS, RUNS, FLOWS = 3, 15, 20_000
# Inside are the networks for benchmarks: whoever measures is not in them, and would be taken for a controller.
INSIDE = ("198.18.0.0/15", "2001:2::/48")
OUTSIDE = ("10.0.0.0/8", "fd00::/8")
ROUTER = {"inside": ("198.18.0.1/15", "2001:2::1/48"), "outside": ("10.0.0.1/8", "fd00::1/8")}
# What the flows that are measured are for: the last grant of the last host.
TARGET, PORT = ("10.1.2.3", "fd00:1::3"), 7000
FAMILIES = ("IPv4", "IPv6")
ACCEPT_ALL = """
table inet plain {
  chain forward { type filter hook forward priority filter; policy drop; ct state established accept; accept; }
}
"""
# Drops packets as they enter, before anything else: what is left is the cost of sending them.
NOWHERE = "table netdev nowhere { chain enter { type filter hook ingress device inside priority 0; policy drop; }; }"
PAGE = """
## A router

{hosts:,} hosts behind it have {grants} grants each, which nobody shares: {rules:,} rules, and twice as many lines for
nft. Medians of {loads} runs.

| | seconds |
| --- | --: |
{loading}

- **compile**: the whole inventory, on the controller: {hosts:,} hosts' own policies and the router's.
- **load**: `nft -f` of the router's rules, where there are none.
- **first run**, **no change**: `egress_rule` on the router, the whole process: it decodes, reads, plans, loads, and
  reads back what the kernel holds.

What the router does with a flow that begins, in microseconds. The flows are datagrams from one host, each from a port
of its own, and the grant is the last one of that host. Beside it a router whose chain `forward` accepts what is
established and then all. Median of {runs} runs of {flows:,} flows, which take turns.

| | accept all | the router | times |
| --- | --: | --: | --: |
{flowing}

To send a packet costs {sending} µs, which are not in it: so much it takes where packets are dropped as they enter.
With them it is {whole} times.

{aims}"""


def inventory() -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return hostvars and groups; no two hosts have a grant in common."""
    numbers = random.Random(0)
    networks = {"resolvers": [], "time_servers": [], "internet": list(OUTSIDE)}
    hosts: dict[str, dict[str, Any]] = {
        f"host{n}": {"addresses": addresses(n), f"allow__host{n}": [_grant(numbers) for _ in range(GRANTS)]}
        for n in range(HOSTS)
    }
    last = {"service": {"protocol": "udp", "ports": [PORT]}, "to": list(TARGET)}
    hosts[f"host{HOSTS - 1}"][f"allow__host{HOSTS - 1}"][-1] = last
    between = {"inside": {"inside": list(INSIDE)}, "outside": {"outside": {"special_use": list(OUTSIDE)}}}
    own = [address.partition("/")[0] for pair in ROUTER.values() for address in pair]
    hosts["router1"] = {"addresses": own, "router": between}
    named = {
        host: {f"egress_firewall_{key}": value for key, value in {**values, "networks": networks}.items()}
        for host, values in hosts.items()
    }
    return named, {"router": ["router1"]}


def addresses(number: int) -> list[str]:
    """Return the addresses of a host: every other one, so that no two can be merged."""
    return [str(ip_address(INSIDE[i].partition("/")[0]) + 256 + 2 * number) for i in range(2)]


def _grant(numbers: random.Random) -> dict[str, Any]:
    service = {"protocol": numbers.choice(["tcp", "udp"]), "ports": [numbers.randrange(1024, 65536)]}
    ipv4 = f"10.{numbers.randrange(256)}.{numbers.randrange(256)}.0/24"
    ipv6 = f"fd00:{numbers.randrange(65536):x}:{numbers.randrange(65536):x}::/48"
    return {"service": service, "to": [ipv4, ipv6]}


@dataclass(frozen=True)
class Way:
    """A router, and the namespace from which packets come to it."""

    router: Namespace
    inside: Namespace

    def send(self, family: int) -> float:
        """Send the first packet of as many flows as are measured, and return how long that took, in seconds."""
        (link,) = json.loads(self.router.must("ip -j link show dev inside"))
        words = [link["address"], addresses(HOSTS - 1)[family], TARGET[family], str(PORT), str(FLOWS)]
        done = self.inside.run([sys.executable, str(HERE / "flood.py"), *words])
        if done.code != 0:
            raise RuntimeError(done.error)
        return float(done.output)

    def passed(self) -> int:
        """Return how many packets have left the router on the other side."""
        (link,) = json.loads(self.router.must("ip -j -s link show dev outside"))
        return int(link["stats64"]["tx"]["packets"])

    def cost(self, family: int, *, passes: bool = True) -> float:
        """Return what one flow costs, in microseconds; all of them must pass, or none."""
        self.router.run(["conntrack", "-F"])
        before = self.passed()
        seconds = self.send(family)
        if self.passed() - before not in (range(FLOWS, FLOWS + 20) if passes else range(20)):
            raise RuntimeError(f"{self.passed() - before} of {FLOWS} flows passed")
        return seconds / FLOWS * 1e6


@contextmanager
def way() -> Iterator[Way]:
    """Make a router that forwards everything, and take it away again."""
    with ExitStack() as stack:
        router, *ends = (stack.enter_context(namespace()) for _ in range(3))
        for where in (router, *ends):
            where.must("sysctl -qw net.ipv6.conf.default.accept_dad=0")
        router.must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        for side, end in zip(ROUTER, ends, strict=True):
            router.must(f"ip link add {side} type veth peer name wire netns {end.name}")
            router.must(f"ip link set {side} up")
            end.must("ip link set wire up")
            for address in ROUTER[side]:
                router.must(f"ip address add {address} dev {side}")
        # To nobody's hardware address: who is there throws packets away before anything else.
        for target in TARGET:
            router.must(f"ip neighbour add {target} lladdr 02:00:00:00:00:01 dev outside")
        yield Way(router, ends[0])


def apply(where: Namespace, policy: dict[str, Any], *, changed: bool) -> float:
    """Run the module for real, and return how long it took; it has to change something or nothing, as said."""
    given = {"rules": policy["rules"], "chains": policy["chains"], "confirm": {"timeout": 0}}
    start = monotonic()
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{where.name}", sys.executable, "-m", MODULE],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": given}), capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, check=False,
    )  # fmt: skip
    seconds = monotonic() - start
    result = json.loads(done.stdout)
    if result.get("failed") or result["changed"] is not changed:
        raise RuntimeError(f"the module did not end as it should: {result.get('msg', 'changed')}")
    return seconds


def loading() -> tuple[dict[str, Any], dict[str, float]]:
    """Return the router's policy, and the seconds of all that it takes to have the kernel hold it."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(LOADS):
        start = monotonic()
        policy = compile_policies(*inventory())["router1"]
        found["compile"].append(monotonic() - start)
        commands = make_script(None, decode(policy["rules"], policy["chains"]))
        script = "".join(f"{command.text}\n" for command in commands)
        with namespace() as fresh:
            start = monotonic()
            fresh.nft(script)
            found["load"].append(monotonic() - start)
        with namespace() as fresh:
            found["first run"].append(apply(fresh, policy, changed=True))
            found["no change"].append(apply(fresh, policy, changed=False))
    return policy, {what: median(seconds) for what, seconds in found.items()}


def flowing(policy: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Return by family what sending costs, and what a flow does through either router, in microseconds."""
    with way() as nowhere, way() as plain, way() as ours:
        nowhere.router.nft(NOWHERE)
        plain.router.nft(ACCEPT_ALL)
        apply(ours.router, policy, changed=True)
        found = {}
        for number, family in enumerate(FAMILIES):
            runs = [(nowhere.cost(number, passes=False), plain.cost(number), ours.cost(number)) for _ in range(RUNS)]
            sending, accepted, ruled = (median(column) for column in zip(*runs, strict=True))
            found[family] = (sending, accepted, ruled)
        return found


def main() -> None:
    """Measure, and print the section."""
    policy, seconds = loading()
    costs = flowing(policy)
    times = {family: (ruled - sent) / (plain - sent) for family, (sent, plain, ruled) in costs.items()}
    worst = max(times.values())
    print(
        PAGE.format(
            hosts=HOSTS, grants=GRANTS, rules=len(policy["rules"]), loads=LOADS, runs=RUNS, flows=FLOWS,
            loading="\n".join(f"| {what} | {median:.1f} |" for what, median in seconds.items()),
            flowing="\n".join(
                f"| {family} | {plain - sent:.2f} | {ruled - sent:.2f} | {times[family]:.2f} |"
                for family, (sent, plain, ruled) in costs.items()
            ),
            sending=" and ".join(f"{sent:.2f}" for sent, _plain, _ruled in costs.values()),
            whole=" and ".join(f"{ruled / plain:.2f}" for _sent, plain, ruled in costs.values()),
            aims="\n".join([
                _aim("loads in less than 5 s", f"{seconds['load']:.1f} s", met=seconds["load"] < 5),
                _aim("first run in less than 5 s", f"{seconds['first run']:.1f} s", met=seconds["first run"] < 5),
                _aim("a new flow costs at most 1.3 times accepting all", f"{worst:.2f}", met=worst <= 1.3),
            ]),
        )
    )  # fmt: skip


def _aim(aim: str, found: str, *, met: bool) -> str:
    return f"- {HOSTS:,} hosts of {GRANTS} grants: {aim}: {found}, **{'met' if met else 'missed'}**"


if __name__ == "__main__":
    main()
