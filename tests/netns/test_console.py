# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program palisade-egress, as it is called by systemd and by whoever stands before the machine."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from netns.namespace import Namespace, namespace
from netns.test_flows import FENCE, HERE, Link
from netns.test_module import Module

from ansible_collections.palisade.egress.plugins.module_utils._console import program_text
from ansible_collections.palisade.egress.plugins.module_utils._run import Result

Plain = dict[str, Any]

PROGRAM = "/usr/local/sbin/palisade-egress"
OLD = [{"name": "old", "chain": "output", "action": "accept", "protocol": "tcp"}]
NEW = [{"name": "new", "chain": "output", "action": "accept", "protocol": "udp"}]
LIMITED = {
    "name": "limited",
    "chain": "output",
    "action": "accept",
    "limit": {"rate": "5/minute", "per": "destination"},
}
CHAINS = {"output": {"default": "drop"}}


@pytest.fixture
def module(box: Namespace) -> Module:
    """Return the module, on a host that has loaded the second of two generations of saved rules."""
    run = Module(box)
    for rules in (OLD, NEW):
        answer = run(rules=rules, chains=CHAINS, persist=True)
        assert not answer.get("failed"), answer
    # What was changed and what was loaded as a whole are listed in different orders.
    box.must(f"{PROGRAM} on")
    return run


def console(box: Namespace, *arguments: str) -> Result:
    return box.run([PROGRAM, *arguments])


@pytest.mark.parametrize("boot_failure", ["closed", "open"])
def test_shellcheck_finds_nothing(boot_failure: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(program_text(boot_failure))
    subprocess.run(["shellcheck", program], check=True)


def test_status_of_a_host_that_is_well(module: Module) -> None:
    status = console(module.netns, "status")
    assert status.output.splitlines()[0] == "on: the rules are as they were loaded, 1 of them"
    assert "generation 1: saved 20" in status.output
    assert [line.endswith("which the next boot loads") for line in status.output.splitlines()[1:]] == [False, True]
    assert status.code == 0


@pytest.mark.parametrize(
    "drift",
    [
        "flush ruleset",
        "delete table inet palisade_egress",
        "flush chain inet palisade_egress output",
        "insert rule inet palisade_egress output accept",
        "add chain inet palisade_egress output { policy accept; }",
    ],
)
def test_the_timer_mends_what_somebody_has_changed(drift: str, module: Module) -> None:
    box = module.netns
    before = box.everything()
    box.nft(drift)
    assert console(box, "status").code == 1
    assert console(box, "check").code == 0
    assert box.everything() == before
    assert console(box, "status").code == 0


def test_the_timer_leaves_alone_what_is_as_it_was_loaded(module: Module) -> None:
    box = module.netns
    module(rules=[LIMITED, *NEW], chains=CHAINS, persist=True)
    box.must("ip link set lo up")
    box.must("ping -c 2 -i 0.2 127.0.0.1")
    before = box.must("nft -a list ruleset")
    assert "127.0.0.1" in before
    assert console(box, "check").code == 0
    assert [line.partition(" expires ")[0] for line in box.must("nft -a list ruleset").splitlines()] == [
        line.partition(" expires ")[0] for line in before.splitlines()
    ]


def test_the_timer_leaves_alone_what_waits_to_be_confirmed(module: Module) -> None:
    box = module.netns
    confirm = {"stage": "apply", "token": "abc", "timeout": 60}
    assert module(rules=OLD, chains=CHAINS, persist=True, confirm=confirm)["pending"]
    pending = box.everything()
    assert console(box, "check").code == 0
    assert box.everything() == pending
    assert console(box, "status").output.startswith("pending: ")


def test_rollback_takes_back_what_waits_to_be_confirmed(module: Module) -> None:
    box = module.netns
    before = box.everything()
    module(rules=OLD, chains=CHAINS, persist=True, confirm={"stage": "apply", "token": "abc", "timeout": 60})
    assert console(box, "rollback").code == 0
    assert box.everything() == before
    late = module(rules=OLD, chains=CHAINS, persist=True, confirm={"stage": "confirm", "token": "abc"})
    assert "took the change back" in late["msg"]


@pytest.mark.parametrize("number", [(), ("1",)])
def test_rollback_loads_an_earlier_generation_that_boots_load_too(number: tuple[str, ...], module: Module) -> None:
    box = module.netns
    assert console(box, "rollback", *number).code == 0
    assert "output/old" in box.everything()
    before = box.everything()
    box.nft("flush ruleset")
    assert console(box, "load").code == 0
    assert box.everything() == before
    # The inventory has the last word.
    assert module(rules=NEW, chains=CHAINS, persist=True)["changed"]
    assert "output/new" in box.everything()


@pytest.mark.parametrize("number", ["3", "x", "../1", ""])
def test_rollback_to_what_is_not_there(number: str, module: Module) -> None:
    box = module.netns
    if not number:
        assert console(box, "rollback").code == 0
    before = box.everything()
    refused = console(box, "rollback", *([number] if number else []))
    assert refused.code == 2
    assert "no such generation" in refused.error
    assert box.everything() == before


def test_rollback_to_what_does_not_load(module: Module) -> None:
    box = module.netns
    before = box.everything()
    box.must("tee /var/lib/palisade-egress/rules-00000001.nft", "no such command\n")
    assert console(box, "rollback", "1").code == 1
    assert box.everything() == before
    assert console(box, "status").code == 0


def test_off_opens_everything_until_on(module: Module) -> None:
    box = module.netns
    before = box.everything()
    said = console(box, "off", "--for", "90m")
    assert "for 90 minutes" in said.output
    assert box.everything() == ""
    status = console(box, "status")
    assert (status.code, status.output.splitlines()[0]) == (3, "off: everything may leave for another 90 minutes")
    for command in ("check", "load"):
        assert console(box, command).code == 0
        assert box.everything() == ""
    assert console(box, "on").code == 0
    assert box.everything() == before
    assert console(box, "status").code == 0


def test_what_begins_while_it_is_off_lives_on(box: Namespace) -> None:
    with namespace() as there:
        link = Link(Namespace(box.name), there)
        try:
            Module(box)(rules=FENCE, chains=CHAINS, persist=True)
            console(box, "off")
            link.connect("in", HERE, 5432)
            with subprocess.Popen(["nsenter", f"--net=/run/netns/{box.name}", *box.wrapper, PROGRAM, "on"]):
                while not box.everything():
                    time.sleep(0.1)
                assert link.lives("in")
            assert link.lives("in")
            assert console(box, "status").code == 0
        finally:
            link.near.end()
            link.far.end()


def test_off_ends_by_itself(module: Module) -> None:
    box = module.netns
    before = box.everything()
    console(box, "off", "--for", "1s")
    box.must("sleep 2.1")
    console(box, "check")
    assert box.everything() == before
    assert console(box, "status").code == 0


def test_off_does_not_survive_a_reboot(module: Module) -> None:
    box = module.netns
    before = box.everything()
    console(box, "off")
    box.must("rm -rf /run/palisade-egress")
    assert console(box, "load").code == 0
    assert box.everything() == before


@pytest.mark.parametrize("check", [True, False])
def test_a_run_says_that_it_is_off_and_leaves_it_so(check: bool, module: Module) -> None:
    console(module.netns, "off")
    refused = module(check=check, rules=NEW, chains=CHAINS, persist=True)
    assert "somebody has turned this host's rules off for another 60 minutes" in refused["msg"]
    assert module.netns.everything() == ""


def test_a_run_removes_what_is_off(module: Module) -> None:
    console(module.netns, "off")
    assert module(state="absent", persist=True)["changed"]
    assert module.netns.run(["ls", "/run/palisade-egress"]).code != 0


@pytest.mark.parametrize("words", [("--for",), ("--for", "0"), ("--for", "25h"), ("--for", "-1"), ("90m",)])
def test_off_for_how_long(words: tuple[str, ...], module: Module) -> None:
    box = module.netns
    before = box.everything()
    assert console(box, "off", *words).code == 2
    assert box.everything() == before


def test_what_does_not_load_leaves_the_host_closed(module: Module) -> None:
    box = module.netns
    box.must("tee /var/lib/palisade-egress/current", "no such command\n")
    box.nft("flush ruleset")
    assert console(box, "load").code == 1
    for chain in ("output", "forward"):
        assert f"hook {chain} priority filter; policy drop;" in box.everything()
    # What is there already is better than that.
    before = box.everything()
    assert console(box, "load").code == 1
    assert box.everything() == before


def test_what_does_not_load_leaves_the_host_open(module: Module) -> None:
    box = module.netns
    module(rules=NEW, chains=CHAINS, persist=True, boot_failure="open")
    box.must("rm /var/lib/palisade-egress/current")
    box.nft("flush ruleset")
    assert console(box, "load").code == 1
    assert box.everything() == ""


@pytest.mark.parametrize("words", [(), ("help",), ("--help",)])
def test_help(words: tuple[str, ...], module: Module) -> None:
    told = console(module.netns, *words)
    assert told.code == 0
    assert all(command in told.output for command in ("status", "rollback", "off", "on"))


def test_what_it_cannot_do(module: Module) -> None:
    assert console(module.netns, "of").code == 2


def test_only_root_can(module: Module) -> None:
    refused = module.netns.run(["setpriv", "--reuid=65534", "--clear-groups", PROGRAM, "off"])
    assert (refused.code, refused.error) == (1, "palisade-egress: only root can\n")
