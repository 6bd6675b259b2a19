# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which things go wrong at a chosen moment, and what has to be true of it afterwards."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netns.namespace import OWN_FILES, STATE, Namespace, machine
from netns.test_module import MODULE, PATHS

from ansible_collections.palisade.egress.plugins.module_utils._run import Result

Plain = dict[str, Any]

PROGRAM = "/usr/local/sbin/palisade-egress"
SAVED = "/var/lib/palisade-egress"
# Where programs that fail keep what they are made of.
DOCTORED = "/var/lib/faults"
DOZEN = [f"198.51.100.{2 * number}" for number in range(12)]
OLD: Plain = {
    "rules": [
        {"name": "old", "chain": "output", "action": "accept", "protocol": "tcp", "destination": DOZEN},
        {"name": "both", "chain": "output", "action": "accept", "limit": {"rate": "5/minute", "per": "destination"}},
        {"name": "gone", "chain": "input", "action": "drop", "protocol": "udp"},
    ],
    "chains": {"output": {"default": "drop"}},
}
NEW: Plain = {
    "rules": [
        {"name": "both", "chain": "output", "action": "reject", "destination": DOZEN[:5]},
        {"name": "new", "chain": "output", "action": "accept", "protocol": "udp", "destination": DOZEN[5:]},
    ],
    "chains": {"output": {"default": "reject"}},
}
# The watchdog's time, and how long a fault may take to end, in seconds: far longer than anything takes. Nobody waits
# that long: the clocks of these tests are moved.
PATIENCE = 60

# What becomes of a program at its turn; $real is what it ought to be.
WAYS = {
    "fails": "exit 1",
    "is killed": "kill -9 $$",
    "works and fails": '"$real" "$@"; exit 1',
    "works and is killed": '"$real" "$@"; kill -9 $$',
    "is killed with its caller": "kill -9 $PPID $$",
    "works and is killed with its caller": '"$real" "$@"; kill -9 $PPID $$',
    "hangs": "exec sleep infinity",
}
# Not sh: that may be the program in question. Nor anything else that may be; each call adds a byte.
WRAPPER = """\
#!/bin/bash
real={directory}/{program}.real
printf x >>{directory}/{program}.calls
read -r -N 9999 calls <{directory}/{program}.calls
[ "${{#calls}}" = {turn} ] || exec "$real" "$@"
: >{directory}/hit
{way}
"""


# What lets connections live on where rules come back that were away; the kernel itself ends it, in seconds.
ALLOWANCE = re.compile(r'^\t\tmeta time < "[^"]+" tcp flags ack / syn,ack ct state new accept\n', re.MULTILINE)


def whole(listing: str) -> tuple[str, ...]:
    """Return the objects of a listing, whatever their order: what is loaded at once is listed in another one."""
    listing = ALLOWANCE.sub("", listing)
    objects = re.findall(r"^\t\w.*?\{\n.*?^\t\}$", listing, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^\t\w[^\n]*\{\n.*?^\t\}$", "", listing, flags=re.MULTILINE | re.DOTALL).split()
    return (*rest, *sorted(objects))


@dataclass
class Host:
    """A host; ``old`` and ``new`` are what it may hold."""

    box: Namespace
    references: References
    begins_with: str
    also: tuple[str, ...] = ()
    # Where the programs are that go wrong.
    paths: dict[str, str] = field(default_factory=dict)
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def network(self) -> int:
        return Path(f"/run/netns/{self.box.name}").stat().st_ino

    @property
    def pending(self) -> Path:
        """Return the directory of the change that is being made."""
        return STATE / f"pending-{self.network}-{self.token}"

    def kernel(self) -> str:
        """Return which of the rulesets the kernel holds; none other may ever be there."""
        holds = whole(self.box.everything())
        for name, listing in self.references.listings.items():
            if listing == holds and name in ("new", self.begins_with, *self.also):
                return name
        raise AssertionError(f"the kernel holds neither the old rules nor the new ones: {self.box.everything()}")

    def run(self, stage: str = "", *, wrapper: tuple[str, ...] = (), **wanted: Any) -> Result:
        """Run the module; ``stage`` is empty for a change without confirmation."""
        return self.box.run(*self.command(stage, wrapper, **wanted))

    def command(self, stage: str, wrapper: tuple[str, ...] = (), **wanted: Any) -> tuple[list[str], str]:
        """Return what runs the module, and what to tell it."""
        confirm = {"timeout": PATIENCE, "stage": stage, "token": self.token} if stage else {"timeout": 0}
        arguments = {**(wanted or NEW), "persist": True, "confirm": confirm}
        python = ["env", f"PYTHONPATH={os.pathsep.join(PATHS)}", "PYTHONDONTWRITEBYTECODE=1", *wrapper, sys.executable]
        return [*python, "-m", MODULE], json.dumps({"ANSIBLE_MODULE_ARGS": arguments})

    def succeed(self, stage: str = "", **options: Any) -> Plain:
        """Run the module where nothing stands in its way, and return its answer."""
        answer = answer_of(self.run(stage, **options))
        assert not answer.get("failed"), answer
        return answer

    def console(self, command: str) -> Result:
        # Its caller is not this test: callers are killed, too.
        return self.box.run(["bash", "-c", '"$@"; exit $?', "bash", PROGRAM, command])

    def files(self) -> list[str]:
        """Return the names of all that is kept, but for those that belong to a healthy host."""
        found = self.box.must(f"find {' '.join(OWN_FILES)} -mindepth 1 ( -path {DOCTORED} -prune -o -print )")
        return [path for path in found.splitlines() if re.search(r"pending|/next|\.new$|/loaded.*\.|/saving-", path)]

    def processes(self) -> list[int]:
        """Return the processes of the host: the watchdog's, and what else is still under way."""
        listed = subprocess.run(["ip", "netns", "pids", self.box.name], capture_output=True, text=True, check=True)
        return [int(word) for word in listed.stdout.split()]

    def kill_all(self) -> None:
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def wait_until(self, happened: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, f"not in {PATIENCE} seconds: {what}"
            time.sleep(0.05)

    def let_time_pass(self) -> None:
        """Have the watchdog's time be over now."""
        for process in self.processes():
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
                if words[-2:] == [str(PATIENCE), ""]:
                    os.kill(process, signal.SIGKILL)

    def wait_for_the_watchdog(self) -> None:
        """Hold that there is nobody left soon after the watchdog's time."""

        def is_over() -> bool:
            # Each time: who has just been started may not have begun to sleep yet.
            self.let_time_pass()
            return not self.processes()

        self.wait_until(is_over, "every process of ours ends")

    def doctor(self, program: str, way: str, turn: int) -> None:
        """Have a program go wrong when it is called for the so-manieth time from now on."""
        path = self.paths[program] = self.box.must(f"which {program}").strip()
        text = WRAPPER.format(directory=DOCTORED, program=program, turn=turn, way=WAYS[way])
        self.box.must(f"mkdir -p {DOCTORED}")
        self.box.must(f"cp -L {path} {DOCTORED}/{program}.real")
        self.box.must(f"tee {DOCTORED}/{program}", text)
        self.box.must(f"chmod 755 {DOCTORED}/{program}")
        self.box.must(f"mount --bind {DOCTORED}/{program} {path}")

    def hide(self, program: str) -> None:
        """Have a program be missing, as far as whoever calls it can tell."""
        self.paths[program] = self.box.must(f"which {program}").strip()
        self.box.must(f"mount --bind /dev/null {self.paths[program]}")

    def mend(self, program: str) -> None:
        self.box.must(f"umount --lazy {self.paths[program]}")

    def spoil(self, place: str, trouble: str) -> None:
        """Have a file system be full or read-only."""
        if trouble == "full":
            self.box.must(f"mount -o remount,size=256k {place}")
            self.box.run(["dd", "if=/dev/zero", f"of={place}/filler", "bs=4k"])
        else:
            self.box.must(f"mount -o remount,ro {place}")

    def repair(self, place: str) -> None:
        self.box.must(f"mount -o remount,rw,size=50% {place}")
        self.box.must(f"rm -f {place}/filler")

    def was_hit(self) -> bool:
        return self.has(f"{DOCTORED}/hit")

    def has(self, path: str | Path) -> bool:
        return self.box.run(["test", "-e", str(path)]).code == 0

    @contextmanager
    def patience(self, seconds: float, *, may_wait: bool) -> Iterator[None]:
        """Be who ends what hangs so long after the watchdog's time, when no change waits any more."""
        over = threading.Event()
        waiting = []

        def wait() -> None:
            lost_at = math.inf
            while not over.wait(0.2):
                if self.was_hit():
                    lost_at = min(lost_at, time.monotonic() + seconds)
                    self.let_time_pass()
                if time.monotonic() > lost_at:
                    waiting.append(self.has(self.pending))
                    self.kill_all()

        watcher = threading.Thread(target=wait)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        assert may_wait or True not in waiting

    def after_a_reboot(self) -> str:
        """Return which rules the next boot makes the kernel hold; this one stays as it is."""
        boot = f"mount -t tmpfs tmpfs /run && if [ -e {PROGRAM} ]; then {PROGRAM} load; fi && nft -s list ruleset"
        booted = self.box.run(["unshare", "--net", "--mount", "sh", "-c", boot])
        assert booted.code == 0, booted.error
        for name, listing in self.references.listings.items():
            if listing == whole(booted.output) and name in ("new", self.begins_with):
                return name
        raise AssertionError(f"a boot loads neither the old rules nor the new ones: {booted.output}")

    def must_be_whole(self) -> None:
        """Hold that the kernel and the disk have the old rules or the new ones."""
        self.kernel()
        self.after_a_reboot()
        if self.has(f"{SAVED}/current"):
            self.box.must(f"nft -c -f {SAVED}/current")
            assert self.box.must(f"cat {SAVED}/current") in (self.references.texts[n] for n in ("old", "new"))

    def must_heal(self) -> None:
        """Hold that the next run sets everything right, whatever was left, and leaves nothing else."""
        self.token = uuid.uuid4().hex[:12]
        if self.succeed("apply")["pending"]:
            self.succeed("confirm")
        assert self.kernel() == "new"
        assert self.box.must(f"cat {SAVED}/current") == self.references.texts["new"]
        assert self.after_a_reboot() == "new"
        assert self.succeed("apply")["changed"] is False
        assert self.files() == []
        left = self.box.must("ls /run/palisade-egress").split()
        assert sorted(left) == [f"loaded-{self.network}", f"lock-{self.network}"]


@dataclass(frozen=True)
class References:
    """What hosts hold: listings by the name of the rules, the texts that are saved, and the files of a host."""

    listings: dict[str, tuple[str, ...]]
    texts: dict[str, str]
    archive: Path

    @contextmanager
    def host(self, begins_with: str) -> Iterator[Host]:
        """Make a host that holds nothing yet, or the old rules, saved and all."""
        with machine() as box:
            host = Host(box, self, begins_with)
            try:
                if begins_with == "old":
                    box.must(f"tar -x -C / -f {self.archive}")
                    box.must(f"{PROGRAM} load")
                yield host
            finally:
                host.kill_all()


def references(directory: Path) -> References:
    """Return what a host holds with these rules where nothing goes wrong."""
    listings, texts, archive = {"nothing": ()}, {}, directory / "old.tar"
    with machine() as box:
        host = Host(box, References({}, {}, archive), "old")
        for name, wanted in (("old", OLD), ("new", NEW)):
            host.succeed(**wanted)
            listings[name] = whole(box.everything())
            texts[name] = box.must(f"cat {SAVED}/current")
            if name == "old":
                box.must(f"tar -c -C / -f {archive} {SAVED[1:]} usr/local/sbin etc/systemd/system")
    return References(listings, texts, archive)


def answer_of(result: Result) -> Plain:
    """Return what the module said; it has to have said it in its own words."""
    assert "Traceback" not in result.error + result.output, result.error + result.output
    answer: Plain = json.loads(result.output)
    assert bool(answer.get("failed")) == (result.code != 0)
    return answer


def each_turn(happens: Callable[[int], bool], at_once: int = 4) -> int:
    """Call with 1, 2, 3 and so on until it tells that nothing happened any more; return how often something did."""

    def noted(turn: int) -> bool:
        try:
            return happens(turn)
        except BaseException as error:
            error.add_note(f"at turn {turn}")
            raise

    with ThreadPoolExecutor(at_once) as pool:
        for first in itertools.count(1, at_once):
            happened = list(pool.map(noted, range(first, first + at_once)))
            if not all(happened):
                return first - 1 + sum(happened)
    raise AssertionError
