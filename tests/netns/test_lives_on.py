# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has counted and noted lives on while the rules change."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
from netns.namespace import Namespace

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge

Plain = dict[str, Any]

SEND = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"
DOZEN = [f"198.51.100.{2 * number}" for number in range(12)]
PING: Plain = {"name": "ping", "chain": "output", "action": "accept", "protocol": "udp", "destination_ports": [9]}
OTHER: Plain = {"name": "other", "chain": "output", "action": "drop", "destination": ["198.51.100.0"]}
LIMIT: Plain = {**PING, "name": "limit", "action": "log", "log": {"prefix": "x"},
                "limit": {"rate": "50/second", "per": "destination"}}  # fmt: skip
RULES = [LIMIT, PING, OTHER]

# What becomes of the rules and chains.
CHANGES: dict[str, tuple[list[Plain], Plain]] = {
    "its action": ([LIMIT, {**PING, "action": "drop"}, OTHER], {}),
    "its ports": ([LIMIT, {**PING, "destination_ports": ["9-11"]}, OTHER], {}),
    "its comment": ([LIMIT, {**PING, "comment": "why"}, OTHER], {}),
    "its addresses become a set": ([LIMIT, {**PING, "destination": [*DOZEN, "127.0.0.1"]}, OTHER], {}),
    "its place": ([LIMIT, OTHER, PING], {}),
    "a rule before it": ([LIMIT, {**OTHER, "name": "new"}, PING, OTHER], {}),
    "a rule behind it": ([LIMIT, PING, {**OTHER, "destination": DOZEN}], {}),
    "a rule less": ([LIMIT, PING], {}),
    "the default": (RULES, {"output": {"default": "drop"}}),
    "the priority": (RULES, {"output": {"priority": -5}}),
    "another chain": (RULES, {"input": {"default": "accept"}}),
}


def send(netns: Namespace, packets: int) -> None:
    for _ in range(packets):
        result = netns.run([sys.executable, "-c", SEND])
        assert result.code == 0 or "not permitted" in result.error


def counted(backend: Nftables, name: str) -> int:
    table = backend.read()
    assert table
    return table.counts[name][0]


def noted(netns: Namespace) -> bool:
    return "127.0.0.1" in netns.must("nft list set inet palisade_egress output/limit/rate4")


@pytest.mark.parametrize("change", CHANGES)
def test_lives_on(change: str, netns: Namespace, backend: Nftables) -> None:
    rules, chains = CHANGES[change]
    netns.must("ip link set lo up")
    converge(backend, decode(RULES, {}), check=False, midstream=False)
    send(netns, 3)
    assert counted(backend, "output/ping") == 3
    assert noted(netns)

    plan = converge(backend, decode(rules, chains), check=False, midstream=False).plan
    assert plan
    assert counted(backend, "output/ping") == 3
    assert noted(netns)
    send(netns, 2)
    assert counted(backend, "output/ping") == 5


def test_rules_that_stay_are_not_touched(netns: Namespace, backend: Nftables) -> None:
    converge(backend, decode(RULES, {}), check=False, midstream=False)
    before = netns.must("nft -a list chain inet palisade_egress output").splitlines()
    converge(backend, decode([*RULES, {**OTHER, "name": "new"}], {}), check=False, midstream=False)
    after = netns.must("nft -a list chain inet palisade_egress output").splitlines()
    assert [line for line in after if '"new"' not in line] == before
    assert len(after) == len(before) + 1


def test_a_rule_that_goes_takes_its_count_along(netns: Namespace, backend: Nftables) -> None:
    netns.must("ip link set lo up")
    converge(backend, decode(RULES, {}), check=False, midstream=False)
    send(netns, 1)
    converge(backend, decode([OTHER], {}), check=False, midstream=False)
    converge(backend, decode(RULES, {}), check=False, midstream=False)
    assert counted(backend, "output/ping") == 0


# limit | for how many seconds an address is remembered that sends no more: until its burst is whole again
MEMORIES = {("50/second", 5): 60, ("1/hour", 3): 3 * 3600, ("7/minute", 100): 858, ("1/day", 65535): 4294967}


@pytest.mark.parametrize("limit", MEMORIES, ids=str)
def test_a_limit_remembers_an_address_until_its_burst_is_whole_again(
    limit: tuple[str, int], netns: Namespace, backend: Nftables
) -> None:
    (rate, burst), memory = limit, MEMORIES[limit]
    netns.must("ip link set lo up")
    rule = {**PING, "limit": {"rate": rate, "burst": burst, "per": "destination"}}
    converge(backend, decode([rule], {}), check=False, midstream=False)

    def left() -> int:
        listed = json.loads(netns.must("nft -j list set inet palisade_egress output/ping/rate4"))["nftables"]
        return int(listed[1]["set"]["elem"][0]["elem"]["expires"])

    send(netns, 1)
    assert memory - 10 < left() <= memory
    time.sleep(2.1)
    before = left()
    send(netns, 1)
    assert before < left()  # and as long as it does send, it is not forgotten at all
