# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever dies or fails, whenever: the old rules or the new ones hold, whole, and the next run sets all right."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from netns._faults import (
    OWN_FILES,
    PROGRAM,
    SAVED,
    STATE,
    WAYS,
    Host,
    References,
    answer_of,
    each_turn,
    references,
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> References:
    return references(tmp_path_factory.mktemp("faults"))


def cases(usual: set[tuple[str, ...]], possible: Iterable[tuple[str, ...]]) -> list[Any]:
    """Return parameters; those that begin with none of the usual ones are for those who have the time."""
    return [
        pytest.param(*case, marks=() if any(case[: len(words)] == words for words in usual) else pytest.mark.long)
        for case in possible
    ]


# The system calls of the module that change something: before each it is killed, each of them fails once.
CALLS = {
    "mkdir": "ENOSPC",
    "rename": "EROFS",
    "symlink": "ENOSPC",
    "unlink": "EROFS",
    "unlinkat": "EROFS",
    "rmdir": "EROFS",
    "fsync": "EIO",
    "ftruncate": "EIO",
    "fchmod": "EROFS",
    "write": "ENOSPC",
    "flock": "ENOLCK",
    "sendto": "ENOBUFS",
    "clone": "EAGAIN",
    "vfork": "EAGAIN",
}
# Only to set up a watchdog; only to save.
ONLY_IN = {"vfork": "apply", "symlink": "confirm", "unlinkat": "confirm", "rmdir": "confirm"}
# What would do the same as those above, and is not used.
OTHER_CALLS = (
    "chmod chown creat fallocate fchmodat fchown fdatasync fork clone3 link linkat mkdirat mknod mknodat pwrite64 "
    "renameat renameat2 sendmsg sendmmsg symlinkat sync syncfs truncate writev"
).replace(" ", ",")
POSSIBLE = [
    (call, stage, begins_with)
    for call in CALLS
    for stage in ("apply", "confirm")
    for begins_with in ("nothing", "old")
    if ONLY_IN.get(call, stage) == stage
]


@pytest.mark.parametrize("begins_with", ["nothing", "old"])
def test_no_call_is_forgotten(begins_with: str, known: References, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with known.host(begins_with) as host:
        for stage in ("apply", "confirm"):
            host.succeed(stage, wrapper=("strace", "-qq", "-A", "-o", str(log), "-e", f"trace={OTHER_CALLS}"))
    assert [line for line in log.read_text().splitlines() if not line.startswith("---")] == []


@pytest.mark.parametrize(
    ("call", "stage", "begins_with"),
    cases({("rename", "confirm", "nothing"), ("rename", "apply"), ("rmdir",)}, POSSIBLE),
)
def test_killed_before_a_call(call: str, stage: str, begins_with: str, known: References) -> None:
    def happens(turn: int) -> bool:
        with known.host(begins_with) as host:
            if stage == "confirm":
                host.succeed("apply")
            result = host.run(stage, wrapper=injected(call, f"signal=KILL:when={turn}"))
            if result.code != -signal.SIGKILL:
                assert not answer_of(result).get("failed"), result
                return False
            must_be_well(host)
            return True

    assert each_turn(happens) > 0


@pytest.mark.parametrize(
    ("call", "stage", "begins_with"), cases({("rename", "confirm", "old"), ("clone", "apply", "old")}, POSSIBLE)
)
def test_a_call_that_fails(call: str, stage: str, begins_with: str, known: References) -> None:
    cause = os.strerror(getattr(errno, CALLS[call]))

    def happens(turn: int) -> bool:
        with known.host(begins_with) as host:
            if stage == "confirm":
                host.succeed("apply")
            where = [option for path in written_by(host) for option in ("-P", path)] if call == "write" else []
            log = f"{known.archive.parent}/{host.token}"
            doctored = injected(call, f"error={CALLS[call]}:when={turn}", log, *where)
            answer = answer_of(host.run(stage, wrapper=doctored))
            if "(INJECTED)" not in Path(log).read_text():
                assert not answer.get("failed"), answer
                return False
            if answer.get("failed"):
                must_be_told(host, answer["msg"], cause)
            if answer.get("pending"):
                host.succeed("confirm")
            must_be_well(host)
            return True

    assert each_turn(happens) > 0


def must_be_told(host: Host, message: str, *causes: str) -> None:
    """Hold that the message names the cause, and says no more than is so: the timer, too, leaves it as it says."""
    holds = host.kernel()
    assert any(cause in message for cause in causes)
    assert message.isprintable()
    assert holds == host.begins_with or "the rules hold" in message or host.has(host.pending)
    if "the rules hold" in message and host.has(PROGRAM):
        host.console("check")
        assert host.kernel() == "new"


def injected(call: str, what: str, log: str = "/dev/null", *where: str) -> tuple[str, ...]:
    """Return what stands before the module to have one of its system calls go wrong."""
    return ("strace", "-qq", "-o", log, *where, "-e", f"trace={call}", "-e", f"inject={call}:{what}")


def written_by(host: Host) -> list[str]:
    """Return the files that the module itself writes."""
    arming = host.pending.with_suffix(".arming")
    kinds = (".service", "-check.service", "-check.timer")
    return [
        *(str(arming / name) for name in ("restore", "deadline", "script")), str(host.pending / "result"),
        f"{STATE}/lock-{host.network}", f"{SAVED}/next.nft", f"{SAVED}/next.json",
        "/usr/local/sbin/.palisade-egress.new",
        *(f"/etc/systemd/system/.palisade-egress{kind}.new" for kind in kinds),
        "/etc/systemd/system/nftables.service.d/.palisade-egress.conf.new",
    ]  # fmt: skip


def confirmed(host: Host) -> None:
    applied = host.run("apply")
    if applied.code == 0:
        host.run("confirm")
    elif applied.code > 0:
        assert answer_of(applied)["failed"]
        assert host.kernel() == host.begins_with


def unconfirmed(host: Host) -> None:
    host.run("apply")
    host.wait_for_the_watchdog()


def nothing(_host: Host) -> None:
    """Leave the host as it is."""


def waiting(host: Host) -> None:
    host.succeed("apply")


def changed(host: Host) -> None:
    host.succeed()


def flushed(host: Host) -> None:
    host.also = ("nothing",)
    host.box.nft("flush ruleset")


def checked(host: Host) -> None:
    host.console("check")


def rolled_back(host: Host) -> None:
    host.console("rollback")


# From where, what comes before, what is under way, and the programs that it takes.
SCENES = {
    "a first change": ("nothing", nothing, confirmed, "nft systemctl sh"),
    "a change": ("old", nothing, confirmed, "nft sh"),
    "a change that nobody confirms": ("old", nothing, unconfirmed, "sleep flock mv nft logger rm sh"),
    "the timer": ("old", flushed, checked, "flock nft mv logger"),
    "taking back": ("old", waiting, rolled_back, "flock mv nft logger rm sh"),
    "going back": ("old", changed, rolled_back, "flock ln mv sync rm nft logger"),
}
POSSIBLE_TAKES = [(scene, program) for scene, (*_rest, programs) in SCENES.items() for program in programs.split()]
POSSIBLE_WAYS = [(*take, way) for take in POSSIBLE_TAKES for way in WAYS if way != "hangs"]
USUAL_WAYS = {
    ("a change", "nft", "works and fails"),
    ("a change", "nft", "works and is killed with its caller"),
    ("a first change", "systemctl", "is killed with its caller"),
    ("a change that nobody confirms", "sleep", "is killed with its caller"),
    ("a change that nobody confirms", "mv", "works and is killed with its caller"),
    ("taking back", "mv", "works and is killed with its caller"),
    ("the timer", "nft", "works and is killed with its caller"),
}


@pytest.mark.parametrize(("scene", "program", "way"), cases(USUAL_WAYS, POSSIBLE_WAYS))
def test_a_program_that_fails(scene: str, program: str, way: str, known: References) -> None:
    def goes_wrong(turn: int) -> bool:
        with known.host(SCENES[scene][0]) as host:
            if not went_wrong(host, scene, program, lambda: host.doctor(program, way, turn)):
                return False
            must_be_well(host)
            return True

    assert each_turn(goes_wrong) > 0


@pytest.mark.parametrize(("scene", "program"), cases({("a change", "nft")}, POSSIBLE_TAKES))
def test_a_program_that_hangs(scene: str, program: str, known: References) -> None:
    def hangs(turn: int) -> bool:
        with known.host(SCENES[scene][0]) as host:
            if not went_wrong(host, scene, program, lambda: host.doctor(program, "hangs", turn)):
                return False
            must_be_well(host)
            return True

    assert each_turn(hangs, 8) > 0


@pytest.mark.parametrize(("scene", "program"), cases({("a change that nobody confirms", "flock")}, POSSIBLE_TAKES))
def test_a_program_that_is_missing(scene: str, program: str, known: References) -> None:
    with known.host(SCENES[scene][0]) as host:
        went_wrong(host, scene, program, lambda: host.hide(program))
        must_be_well(host)


def went_wrong(host: Host, scene: str, program: str, spoil: Callable[[], None]) -> bool:
    """Play a scene with a program spoilt in the middle, and tell whether its turn to go wrong came."""
    _begins_with, before, happens, _programs = SCENES[scene]
    before(host)
    spoil()
    # A watchdog that hangs itself keeps the change waiting, until somebody ends it.
    with host.patience(12, may_wait=happens is unconfirmed):
        happens(host)
        # The watchdog's time comes in any case, and it must end as long as its programs are as they are.
        host.wait_for_the_watchdog()
    host.mend(program)
    return host.was_hit()


def must_be_well(host: Host) -> None:
    host.kernel()
    host.wait_for_the_watchdog()
    if host.has(host.pending):
        # Its watchdog is dead: the timer stands in for it, or else the next run.
        host.box.must(f"tee {host.pending}/deadline", "0")
        if host.has(PROGRAM):
            host.console("check")
            assert host.kernel() == host.begins_with
    host.must_be_whole()
    host.must_heal()


POSSIBLE_DISKS = [
    (stage, begins_with, trouble, place)
    for stage in ("apply", "confirm")
    for begins_with in ("nothing", "old")
    for trouble in ("full", "read-only")
    for place in OWN_FILES
]


@pytest.mark.parametrize(
    ("stage", "begins_with", "trouble", "place"), cases({("confirm", "nothing", "read-only")}, POSSIBLE_DISKS)
)
def test_a_disk_that_refuses(stage: str, begins_with: str, trouble: str, place: str, known: References) -> None:
    # The second is what sha256sum says of a disk that is full.
    causes = (os.strerror(errno.ENOSPC), "write error") if trouble == "full" else (os.strerror(errno.EROFS),)
    with known.host(begins_with) as host:
        if stage == "confirm":
            host.succeed("apply")
        host.spoil(place, trouble)
        answer = answer_of(host.run(stage))
        if answer.get("failed"):
            must_be_told(host, answer["msg"], *causes)
        host.repair(place)
        if answer.get("pending"):
            host.succeed("confirm")
        must_be_well(host)
