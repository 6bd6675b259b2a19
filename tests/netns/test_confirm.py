# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that are confirmed stand, others are taken back: the stages of the module, as its action runs them."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator
from subprocess import PIPE, Popen
from typing import Any

import pytest
from netns.namespace import STATE, Namespace
from netns.test_module import PATHS, Module

Plain = dict[str, Any]

OLD = [{"name": "old", "chain": "output", "action": "accept", "protocol": "tcp"}]
NEW = [{"name": "new", "chain": "output", "action": "accept", "protocol": "udp"}]
CHAINS = {"output": {"default": "drop"}}
HOLD_LOCK = """
from ansible_collections.palisade.egress.plugins.module_utils._watchdog import only_one
import time
with only_one():
    print(1, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def module(netns: Namespace) -> Module:
    """Return the module, where there are rules already."""
    run = Module(netns)
    run(rules=OLD, chains=CHAINS)
    return run


@pytest.fixture
def token() -> str:
    return uuid.uuid4().hex[:12]


def stage(module: Module, name: str, token: str, rules: list[Plain], timeout: int = 60) -> Plain:
    return module(rules=rules, chains=CHAINS, confirm={"stage": name, "token": token, "timeout": timeout})


def wait_until(condition: Any) -> None:
    """Wait for what a process does in its own time."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_what_nobody_confirms_is_taken_back(module: Module, token: str) -> None:
    before = module.netns.everything()
    applied = stage(module, "apply", token, NEW, timeout=2)
    assert (applied["changed"], applied["pending"]) == (True, True)
    assert "output/new" in module.netns.everything()
    wait_until(lambda: module.netns.everything() == before)
    late = stage(module, "confirm", token, NEW)
    assert "took the change back" in late["msg"]
    assert module.netns.everything() == before


def test_a_first_apply_is_taken_back_to_nothing(netns: Namespace, token: str) -> None:
    stage(Module(netns), "apply", token, NEW, timeout=2)
    assert netns.everything()
    wait_until(lambda: netns.everything() == "")


def test_counts_come_back_with_the_rules(module: Module, token: str) -> None:
    module.netns.must("ip link set lo up")
    sender = "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect_ex(('127.0.0.1', 9))"
    module.netns.run([sys.executable, "-c", sender])
    before = module.netns.must("nft list table inet palisade_egress")
    assert "packets 0" not in before.partition("counter output/old")[2][:60]
    stage(module, "apply", token, NEW, timeout=2)
    wait_until(lambda: module.netns.must("nft list table inet palisade_egress") == before)


def test_what_is_confirmed_stands(module: Module, token: str) -> None:
    stage(module, "apply", token, NEW, timeout=3)
    confirmed = stage(module, "confirm", token, NEW)
    assert not confirmed.get("failed"), confirmed
    after = module.netns.everything()
    time.sleep(4)
    assert module.netns.everything() == after
    assert module(rules=NEW, chains=CHAINS)["changed"] is False


def test_the_allowance_for_midstream_ends_with_the_confirmation(netns: Namespace, token: str) -> None:
    module = Module(netns)
    confirm = {"token": token, "timeout": 60}
    module(rules=NEW, chains=CHAINS, midstream="on_first_apply", confirm={"stage": "apply", **confirm})
    assert "palisade/midstream" in netns.everything()
    module(rules=NEW, chains=CHAINS, midstream="on_first_apply", confirm={"stage": "confirm", **confirm})
    assert "palisade/midstream" not in netns.everything()


def test_nothing_to_change_is_nothing_to_confirm(module: Module, token: str) -> None:
    applied = stage(module, "apply", token, OLD)
    assert (applied["changed"], applied["pending"]) == (False, False)


def test_a_second_change_waits_for_the_first(module: Module, token: str) -> None:
    stage(module, "apply", token, NEW)
    refused = module(rules=OLD, chains=CHAINS)
    assert "a change waits to be confirmed" in refused["msg"]
    assert "output/new" in module.netns.everything()
    stage(module, "confirm", token, NEW)


@pytest.fixture
def other_run(netns: Namespace) -> Iterator[None]:
    """Be another run that changes this host."""
    command = ["nsenter", f"--net=/run/netns/{netns.name}", sys.executable, "-c", HOLD_LOCK]
    with Popen(command, stdout=PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}) as process:
        try:
            assert process.stdout.readline() == "1\n"
            yield
        finally:
            process.kill()


@pytest.mark.usefixtures("other_run")
def test_two_runs_at_once(netns: Namespace) -> None:
    refused = Module(netns)(rules=NEW, chains=CHAINS)
    assert "another run is changing this host's rules now" in refused["msg"]
    assert netns.everything() == ""


def test_a_change_that_fails_leaves_no_watchdog(module: Module, token: str) -> None:
    before = module.netns.everything()
    refused = {"name": "both", "chain": "output", "action": "accept", "limit": {"rate": "1/second"},
               "log": {"prefix": "x", "rate": "1/second"}}  # fmt: skip
    assert stage(module, "apply", token, [*NEW, refused], timeout=2)["failed"]
    assert module.netns.everything() == before
    assert module(rules=NEW, chains=CHAINS)["changed"]


REACHABLE = {"name": "itself", "host": "127.0.0.1", "protocol": "icmp", "timeout": 1}
LOOPBACK = {"name": "loopback", "chain": "output", "action": "accept", "out_interface": ["lo"]}


def probed(module: Module, name: str, token: str, rules: list[Plain], *probes: Plain) -> Plain:
    confirm = {"stage": name, "token": token, "timeout": 60}
    return module(rules=rules, chains=CHAINS, probes=list(probes), confirm=confirm)


def test_probes_that_succeed_let_a_change_stand(module: Module, token: str) -> None:
    module.netns.must("ip link set lo up")
    probed(module, "apply", token, [LOOPBACK], REACHABLE)
    confirmed = probed(module, "confirm", token, [LOOPBACK], REACHABLE)
    assert (confirmed["changed"], confirmed["pending"]) == (True, False)
    assert "output/loopback" in module.netns.everything()


def test_a_probe_that_fails_takes_the_change_back_at_once(module: Module, token: str) -> None:
    module.netns.must("ip link set lo up")
    module(rules=[LOOPBACK], chains=CHAINS)
    before = module.netns.everything()
    probed(module, "apply", token, NEW, REACHABLE)
    confirmed = probed(module, "confirm", token, NEW, REACHABLE)
    assert "itself (icmp 127.0.0.1): expected reachable, measured blocked here" in confirmed["msg"]
    assert "Over the rules before it, no probe fails" in confirmed["msg"]
    assert module.netns.everything() == before
    assert probed(module, "apply", "another", [LOOPBACK], REACHABLE)["changed"] is False


def test_a_probe_that_fails_anyway_is_told_apart(module: Module, token: str) -> None:
    module.netns.must("ip link set lo up")
    nobody = {"name": "nobody", "host": "127.0.0.1", "protocol": "tcp", "port": 9, "timeout": 1}
    probed(module, "apply", token, [LOOPBACK], nobody)
    confirmed = probed(module, "confirm", token, [LOOPBACK], nobody)
    assert confirmed["msg"].count("nobody (tcp 127.0.0.1 port 9): expected reachable, measured") == 2


@pytest.mark.parametrize("probe", [{"name": "x"}, {**REACHABLE, "timeout": 60}])
def test_probes_that_cannot_be_are_refused_before_anything_is_applied(probe: Plain, module: Module, token: str) -> None:
    before = module.netns.everything()
    assert "probe" in probed(module, "apply", token, NEW, probe)["msg"]
    assert module.netns.everything() == before


def test_the_answer_to_a_change_can_be_had_from_its_confirmation(module: Module, token: str) -> None:
    applied = stage(module, "apply", token, NEW)
    confirmed = stage(module, "confirm", token, NEW)
    assert confirmed["plan"] == applied["plan"]
    assert confirmed["changed"]


# What a run that was killed leaves, by the name of the directory of its change; the old rules are in it.
LEFT = {"while it set the watchdog up": ".arming", "once the change stood": ".kept", "by a watchdog": ".taken-back"}


@pytest.mark.parametrize("left", LEFT)
def test_what_killed_runs_leave_is_settled_by_the_next(left: str, module: Module, token: str) -> None:
    box = module.netns
    before = box.everything()
    stage(module, "apply", token, NEW)
    pending = next(STATE.glob(f"pending-*-{token}"))
    pending.rename(pending.with_suffix(LEFT[left]))
    # Rules that are there already: whatever changes was left to do.
    now = OLD if left == "by a watchdog" else NEW
    assert module(rules=now, chains=CHAINS)["changed"] is False
    assert (box.everything() == before) == (left == "by a watchdog")
    assert list(STATE.glob(f"pending-*-{token}*")) == []


def test_a_watchdog_that_died_is_stood_in_for(module: Module, token: str) -> None:
    before = module.netns.everything()
    stage(module, "apply", token, NEW)
    pending = next(STATE.glob(f"pending-*-{token}"))
    (pending / "deadline").write_text("0")
    assert module(rules=OLD, chains=CHAINS)["changed"] is False
    assert module.netns.everything() == before


def test_rules_before_it_that_no_longer_load_are_not_in_the_way(module: Module, token: str) -> None:
    stage(module, "apply", token, NEW)
    pending = next(STATE.glob(f"pending-*-{token}"))
    (pending / "restore").write_text("no such command")
    (pending / "deadline").write_text("0")
    assert module(rules=OLD, chains=CHAINS)["changed"] is True
    assert list(STATE.glob(f"pending-*-{token}*")) == []
