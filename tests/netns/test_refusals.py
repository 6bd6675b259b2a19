# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be done gives an error about our rule, and leaves the kernel as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from netns.namespace import Namespace, namespace

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import (
    KernelError,
    UnsupportedError,
)
from ansible_collections.palisade.egress.plugins.module_utils._nft_script import Command
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge

DOZEN = [f"198.51.100.{2 * number}" for number in range(12)]
BEFORE = decode(
    [
        {"name": "dozen", "chain": "output", "action": "drop", "destination": DOZEN},
        {"name": "limit", "chain": "output", "action": "accept", "limit": {"rate": "5/second", "per": "source"}},
        {"name": "rated", "chain": "input", "action": "drop", "log": {"prefix": "x", "rate": "5/second"}},
    ],
    {"output": {"default": "reject"}},
)
AFTER = decode(
    [
        {"name": "dozen", "chain": "output", "action": "accept", "destination": DOZEN[:10]},
        {"name": "new", "chain": "output", "action": "accept", "destination": ["203.0.113.7"]},
    ],
    {"output": {"default": "drop", "priority": 5}},
)
# Lines that nft, or the kernel, does not take in the place of the rule ``new``.
REFUSED = {
    "a word that nft does not know": "add rule inet palisade_egress output ip daddr 203.0.113.7 teleport",
    "a set that is not there": "add rule inet palisade_egress output ip daddr @nowhere accept",
    "a chain that is not there": "add rule inet palisade_egress output jump own/nowhere",
    "a counter that is not there": 'add rule inet palisade_egress output counter name "nowhere"',
    "what the kernel does not do there": "add rule inet palisade_egress output fib saddr . iif oif missing",
    "too long a comment": f'add rule inet palisade_egress output accept comment "{"x" * 129}"',
    "an element twice": "add element inet palisade_egress output/dozen/to4 { 198.51.100.0/24 }",
}


class Doctored(Nftables):
    """The backend, with another line where the rule ``new`` is made."""

    line = ""

    def load(self, script: tuple[Command, ...]) -> None:
        super().load(tuple(replace(c, text=self.line) if c.about == "rule 'new' in output" else c for c in script))


class Meddled(Nftables):
    """The backend, with somebody who changes the table right after each load."""

    command: tuple[str, ...] = ()

    def load(self, script: tuple[Command, ...]) -> None:
        super().load(script)
        assert self._run(["nft", *self.command], "").code == 0


def text(netns: Namespace) -> str:
    return netns.must("nft list ruleset")


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_nft_refuses_a_rule(line: str, each_nft: Namespace) -> None:
    backend = Doctored(each_nft.run)
    backend.line = line
    converge(Nftables(each_nft.run), BEFORE, check=False, midstream=False)
    before = text(each_nft)
    with pytest.raises(KernelError) as caught:
        converge(backend, AFTER, check=False, midstream=False)
    assert caught.value.where == "rule 'new' in output"
    assert caught.value.what.startswith("nft refuses it: ")
    assert line[:200] in caught.value.what
    assert str(caught.value).isprintable()
    assert text(each_nft) == before


@pytest.mark.parametrize(
    "command",
    [
        ("add", "rule", "inet", "palisade_egress", "output", "accept"),
        ("flush", "chain", "inet", "palisade_egress", "output"),
        ("flush", "set", "inet", "palisade_egress", "output/dozen/to4"),
        ("delete", "table", "inet", "palisade_egress"),
        ("add", "table", "inet", "palisade_egress", "{ flags dormant; }"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("present", [True, False], ids=["change", "first apply"])
def test_what_the_kernel_does_not_keep_is_taken_back(command: tuple[str, ...], present: bool, netns: Namespace) -> None:
    backend = Meddled(netns.run)
    backend.command = command
    if present:
        converge(Nftables(netns.run), BEFORE, check=False, midstream=False)
        netns.nft("add element inet palisade_egress output/limit/rate4 { 198.51.100.9 limit rate 5/second }")
    before = text(netns).partition(" expires ")[0]
    with pytest.raises(KernelError, match="taken back") as caught:
        converge(backend, AFTER, check=False, midstream=False)
    assert caught.value.where == "the kernel"
    assert text(netns).partition(" expires ")[0] == before
    if present:
        assert converge(Nftables(netns.run), BEFORE, check=True, midstream=False).plan == ()


@pytest.mark.parametrize("options", [{"cgroup": ["system.slice"]}, {"limit": {"rate": "5/day"}}])
def test_what_nft_cannot_carry_touches_nothing(options: dict[str, Any], netns: Namespace, backend: Nftables) -> None:
    rule = {"name": "web", "chain": "output", "action": "accept", "log": {"prefix": "x", "rate": "5/day"}, **options}
    converge(backend, BEFORE, check=False, midstream=False)
    before = text(netns)
    for check in (True, False):
        with pytest.raises(UnsupportedError, match=r"^rule 'web' in output\.(cgroup|log\.rate): "):
            converge(backend, decode([rule], {}), check=check, midstream=False)
    assert text(netns) == before


def test_no_right_to_change_rules() -> None:
    with namespace("setpriv", "--bounding-set=-net_admin") as netns:
        for check in (True, False):
            with pytest.raises(KernelError, match="may not change the kernel's rules"):
                converge(Nftables(netns.run), BEFORE, check=check, midstream=False)


def test_no_right_to_anything() -> None:
    with (
        namespace("setpriv", "--reuid=65534", "--clear-groups") as netns,
        pytest.raises(KernelError, match="become: true"),
    ):
        converge(Nftables(netns.run), BEFORE, check=True, midstream=False)


def test_an_nft_that_does_not_work_is_not_an_empty_kernel() -> None:
    with namespace("chroot", "/nowhere") as netns, pytest.raises(KernelError, match="No such file or directory"):
        converge(Nftables(netns.run), BEFORE, check=True, midstream=False)


def test_an_nft_that_says_nothing_of_use() -> None:
    with namespace("echo") as netns, pytest.raises(KernelError, match="cannot be read"):
        converge(Nftables(netns.run), BEFORE, check=True, midstream=False)
