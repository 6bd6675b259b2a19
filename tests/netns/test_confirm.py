# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that are confirmed stand, others are taken back: the stages of the module, as its action runs them."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from subprocess import PIPE, Popen
from typing import Any

import pytest
from netns.namespace import Namespace
from netns.test_module import Module

Plain = dict[str, Any]

OLD = [{"name": "old", "chain": "output", "action": "accept", "protocol": "tcp"}]
NEW = [{"name": "new", "chain": "output", "action": "accept", "protocol": "udp"}]
CHAINS = {"output": {"default": "drop"}}
HOLD_LOCK = """
import socket, time
lock = socket.socket(socket.AF_UNIX)
lock.bind("\\0palisade-egress")
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
    with Popen(command, stdout=PIPE, text=True) as process:
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
