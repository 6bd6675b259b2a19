# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured, as a page of Markdown."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median

LARGE = 100_000
# What the aims are about.
SIZE = 1_000

PAGE = """\
<!-- Written by `make bench`: edit tests/bench/report.py instead. -->
# Benchmarks

`make bench` measures this in about ten minutes, `make bench QUICK=1` a part of it in two, and writes this page anew.
It needs root. All rules go into network namespaces that are gone afterwards.

{machine}

## One task with all rules

{tasks}

Seconds, {rounds}, and in brackets how many times the do-nothing module that is. Each figure is one task in an
`ansible-playbook` of its own, on the local connection with Ansible's defaults, from the start of the task until Ansible
has understood the result. The {around:.2f} s that `ansible-playbook` itself needs to start and to end are not in it;
a task that runs `true` takes {true:.2f} s. The rules come from a file of variables and have a name, a network and a
port each; the addresses are prefixes of both families that cannot be merged.

- **do nothing**: a module that takes the same arguments and ends. It is the floor: Ansible's own part in
  templating the arguments, taking them to the node, and taking them back as `invocation`. The last of these
  `egress_rule` spares: its results tell the number of rules instead.
- **first run**: `egress_rule` where there is no rule yet. It reads, plans, loads, and reads back what the kernel holds.
  Like the other columns, without its safety net (`confirm: {{timeout: 0}}`), as none of the others has one.
- **confirmed**: the same as users get it: with a watchdog, a new login, and a second call that confirms.
- **no change**: the same once more. It reads and compares.
- **one change**: the port of one rule in the middle is another one.
- **raw nft**: `nft -f` of the same ruleset by hand: no Ansible, nothing compared or read back.

## `ansible.builtin.iptables` in a loop

{loops}

Seconds for one task with a `loop` over the rules, in the same setting, measured once. *Italic*: not measured, but
extrapolated from {longest} rules in proportion, which flatters the loop. The last columns tell how many times faster
`egress_rule` is with as many rules.

## Memory on the managed node

{memory}

The most that each program had in memory, in MB, with {large:,} addresses in one rule. The module waits while
`nft` runs.

## Aims

{aims}
"""


@dataclass
class Results:
    """Seconds by workload and what was measured; those of the loops by their number of rules."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    loops: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    memory: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, workload: str, what: str, seconds: float) -> None:
        """Note one measurement."""
        self.seconds[workload, what].append(seconds)

    def add_loop(self, count: int, what: str, seconds: float) -> None:
        """Note how long a loop over so many rules took."""
        self.loops[count][what] = seconds

    def median(self, workload: str, what: str) -> float:
        """Return the median of a measurement."""
        return median(self.seconds[workload, what])

    def loop(self, count: int, what: str) -> float:
        """Return how long a loop takes, if need be in proportion to the longest one measured."""
        longest = max(self.loops)
        return self.loops[count][what] if count in self.loops else self.loops[longest][what] * count / longest

    def workloads(self) -> list[str]:
        """Return the names of the workloads, in the order of their measurement."""
        return [name for name in dict.fromkeys(name for name, _what in self.seconds) if name]


def report(results: Results) -> str:
    """Return the page."""
    rounds = len(results.seconds["", "true"])
    return PAGE.format(
        machine=_machine(),
        tasks=_tasks(results),
        rounds=f"median of {rounds} runs that take turns" if rounds > 1 else "of one run each, so take them with care",
        around=results.median("", "around"),
        true=results.median("", "true"),
        loops=_loops(results),
        longest=max(results.loops),
        memory=_memory(results),
        large=LARGE,
        aims="\n".join(_aims(results)),
    )


def _machine() -> str:
    nft, iptables = (
        _first_line(program, "--version").removeprefix(f"{program} ") for program in ("nftables", "iptables")
    )
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"Measured on {os.cpu_count()} cores with Linux {kernel}, nft {nft}, iptables {iptables}, "
        f"ansible-core {version('ansible-core')} and Python {platform.python_version()}."
    )


def _first_line(program: str, option: str) -> str:
    command = {"nftables": "nft"}.get(program, program)
    return subprocess.run([command, option], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _tasks(results: Results) -> str:
    columns = {
        "nothing": "do nothing",
        "first": "first run",
        "confirmed": "confirmed",
        "second": "no change",
        "change": "one change",
    }
    rows = []
    for name in results.workloads():
        floor = results.median(name, "nothing")
        cells = [f"{floor:.2f}"]
        for what in list(columns)[1:]:
            known = (name, what) in results.seconds
            cells.append(
                f"{results.median(name, what):.2f} ({results.median(name, what) / floor:.2f})" if known else ""
            )
        rows.append([name, *cells, f"{results.median(name, 'raw'):.3f}"])
    return _table(["", *columns.values(), "raw nft"], rows)


def _loops(results: Results) -> str:
    sizes = {int(re.sub(r"\D", "", name.split()[0])): name for name in results.workloads() if name.endswith(" rules")}
    rows = []
    for count in sorted({*sizes, *results.loops}):
        mark = "" if count in results.loops else "*"
        seconds = [f"{mark}{results.loop(count, what):,.1f}{mark}" for what in ("first", "second")]
        times = [
            f"{mark}{_times_faster(results, count, what):,.0f}{mark}" if count in sizes else ""
            for what in ("first", "second")
        ]
        rows.append([f"{count:,} rules", *seconds, *times])
    return _table(["", "first run", "no change", "first run: times faster", "no change: times faster"], rows)


def _memory(results: Results) -> str:
    programs = sorted({program for peaks in results.memory.values() for program in peaks})
    rows = [[run, *(f"{peaks.get(program, 0):.0f}" for program in programs)] for run, peaks in results.memory.items()]
    return _table(["", *programs], rows)


def _times_faster(results: Results, count: int, what: str) -> float:
    return results.loop(count, what) / results.median(f"{count:,} rules", what)


def _aims(results: Results) -> Iterable[str]:
    for what, words in (("first", "first run"), ("second", "run without change")):
        times = _times_faster(results, SIZE, what)
        yield _aim(f"{SIZE:,} rules, {words}: at least 150 times faster than the loop", f"{times:.0f}", times >= 150)
    ratio = results.median(f"{SIZE:,} rules", "second") / results.median(f"{SIZE:,} rules", "nothing")
    yield _aim(f"{SIZE:,} rules, run without change: within 1.5 times of doing nothing", f"{ratio:.2f}", ratio <= 1.5)
    large = f"1 rule, {LARGE:,} addresses"
    for what, words in (("first", "first run"), ("second", "run without change")):
        ratio = results.median(large, what) / (results.median(large, "nothing") + results.median(large, "raw"))
        aim = f"{large}, {words}: within 1.5 times of doing nothing and raw nft together"
        yield _aim(aim, f"{ratio:.2f}", ratio <= 1.5)
    peak = max(peaks["module"] for peaks in results.memory.values())
    yield _aim(f"{large}: the module needs less than 150 MB", f"{peak:.0f} MB", peak < 150)


def _aim(aim: str, found: str, met: bool) -> str:
    return f"- {aim}: {found}, **{'met' if met else 'missed'}**"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
