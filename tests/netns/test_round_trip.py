# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rulesets, one after the other, in a real kernel: what is wanted is what is read back, for each nft."""

from __future__ import annotations

import pytest
from netns.namespace import Namespace
from property.strategies import PlainRuleset, for_samples, histories, rulesets

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._plan import make_plan
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge

# Of three rulesets each.
HISTORIES = 17


def seeds(first: int, count: int) -> list[object]:
    """Return so many seeds for every run, and ten times as many for long ones."""
    return [pytest.param(first + n, marks=[pytest.mark.long] if n >= count else []) for n in range(10 * count)]


def prove(backend: Nftables, history: list[PlainRuleset]) -> None:
    for rules, chains in history:
        wanted = decode(rules, chains)
        before = backend.read()
        plan = make_plan(backend.observe(before), wanted)
        assert bool(backend.make_script(before, wanted)) == bool(plan)

        assert converge(backend, wanted, check=False, midstream=False).plan == plan

        after = backend.read()
        observed = backend.observe(after)
        assert observed.ruleset == wanted
        assert observed.strays == ()
        assert make_plan(observed, wanted) == ()
        assert backend.make_script(after, wanted) == ()


@pytest.mark.parametrize("seed", seeds(0, 8))
def test_any_ruleset_becomes_any_other(seed: int, backend: Nftables) -> None:
    for_samples(histories(), HISTORIES, seed)(lambda history: prove(backend, history))


@pytest.mark.parametrize("seed", seeds(1000, 2))
def test_with_each_version_of_nft(seed: int, each_nft: Namespace) -> None:
    for_samples(histories(), HISTORIES, seed)(lambda history: prove(Nftables(each_nft.run), history))


def test_a_dispatch_that_stays_leaves_a_chain_that_goes(backend: Nftables) -> None:
    for chain in "before", "after":
        table = {f"{net}.{2 * n}/32": chain for n in range(12) for net in ("198.51.100", "203.0.113")}
        dispatch = {"name": "by", "chain": "output", "action": "dispatch", "dispatch": {"source": table}}
        last = {"name": "last", "chain": chain, "action": "drop"}
        wanted = decode([dispatch, last], {})
        assert converge(backend, wanted, check=False, midstream=False).plan
        assert backend.observe(backend.read()).ruleset == wanted


def test_a_snapshot_restores_all_that_there_was(netns: Namespace, backend: Nftables) -> None:
    def restored(ruleset: PlainRuleset) -> None:
        wanted = decode(*ruleset)
        converge(backend, wanted, check=False, midstream=False)
        snapshot = backend.snapshot(backend.read())
        netns.nft("flush table inet palisade_egress")
        backend.restore(snapshot)
        assert backend.make_script(backend.read(), wanted) == ()

    for_samples(rulesets(), 40, 0)(restored)
