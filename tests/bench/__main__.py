# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m bench FILE` measures egress_rule beside what else there is, and writes a report to FILE.

The environment variable QUICK makes it short: one round, no ruleset beyond 1,000 rules, fewer rules in loops.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.node import Task, node
from bench.report import LARGE, SIZE, Results, report
from bench.workload import Workload, many_rules, one_rule, with_one_change

QUICK = bool(os.environ.get("QUICK"))
SIZES = (10, 100, SIZE) if QUICK else (10, 100, SIZE, 10_000)
LOOPS = (10, 40) if QUICK else (10, 100, 200)
ROUNDS = 1 if QUICK else 3

TRUE: Task = {"ansible.builtin.command": "true"}
GIVEN = {"rules": "{{ rules }}", "chains": "{{ chains }}"}
# Nothing else that is measured here makes sure that the host can still be reached.
ALONE = {**GIVEN, "confirm": {"timeout": 0}}
NOTHING: Task = {"nothing": ALONE}
EGRESS_RULE: Task = {"palisade.egress.egress_rule": ALONE}
CONFIRMED: Task = {"palisade.egress.egress_rule": GIVEN}
LOOP: Task = {
    "ansible.builtin.iptables": {
        "chain": "OUTPUT",
        "protocol": "{{ item.protocol }}",
        "destination": "{{ item.destination[0] }}",
        "destination_port": "{{ item.destination_ports[0] }}",
        "jump": "ACCEPT",
        "comment": "{{ item.name }}",
    },
    "loop": "{{ rules }}",
}


def main() -> None:
    """Measure and report."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results = Results()
    workloads = [many_rules(size) for size in SIZES] + [one_rule(LARGE)]
    with TemporaryDirectory(prefix="palisade-bench-") as name:
        directory = Path(name)
        for number in range(ROUNDS):
            _tell(f"round {number + 1} of {ROUNDS}")
            _ansible_alone(directory, results)
            for workload in workloads:
                _one(directory, workload, results)
        for size in LOOPS:
            _tell(f"builtin.iptables with {size} rules")
            _loop(directory, many_rules(size), results)
        _tell("memory")
        _memory(directory, workloads[-1], results)
    text = report(results)
    Path(sys.argv[1]).write_text(text, encoding="utf-8")
    print(text)


def _ansible_alone(directory: Path, results: Results) -> None:
    with node(directory) as fresh:
        timing = fresh.play(TRUE, {}, changed=True)
    results.add("", "true", timing.task)
    results.add("", "around", timing.run - timing.task)


def _one(directory: Path, workload: Workload, results: Results) -> None:
    variables = workload.variables()
    with node(directory) as fresh:
        results.add(workload.name, "nothing", fresh.play(NOTHING, variables, changed=False).task)
        results.add(workload.name, "first", fresh.play(EGRESS_RULE, variables, changed=True).task)
        results.add(workload.name, "second", fresh.play(EGRESS_RULE, variables, changed=False).task)
        if len(workload.rules) == max(SIZES):
            changed = with_one_change(workload).variables()
            results.add(workload.name, "change", fresh.play(EGRESS_RULE, changed, changed=True).task)
    with node(directory) as fresh:
        results.add(workload.name, "raw", fresh.load(workload.script()))
    if len(workload.rules) <= SIZE:
        with node(directory) as fresh:
            results.add(workload.name, "confirmed", fresh.play(CONFIRMED, variables, changed=True).task)


def _loop(directory: Path, workload: Workload, results: Results) -> None:
    with node(directory) as fresh:
        for what, changed in (("first", True), ("second", False)):
            timing = fresh.play(LOOP, workload.variables(), changed=changed)
            results.add_loop(len(workload.rules), what, timing.task)


def _memory(directory: Path, workload: Workload, results: Results) -> None:
    with node(directory) as fresh:
        results.memory["first run"] = fresh.peaks(EGRESS_RULE, workload.variables(), changed=True)
        results.memory["without change"] = fresh.peaks(EGRESS_RULE, workload.variables(), changed=False)


def _tell(what: str) -> None:
    print(f"... {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
