# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python tests/bench/compile_bench.py` measures how long a fleet takes to compile.

As users meet it: what `ansible-playbook` takes longer with `egress_compile` than with a task that does nothing, and
longer still with 50 assertions to prove. Prints a part of docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fleet import GROUP, write

ROUNDS = 3
# Hosts, and how many groups that grant something each of them is in: by three, hardly two hosts are alike.
FLEETS = ((1_000, 1), (1_000, 3), (10_000, 1))
ASSERTED = ("telnet", "tftp", "rdp")
INTRODUCTION = """
## Compiling a fleet

Groups of 50 hosts with 15 grants and two forbids each; five of the grants name groups of 50 to 200 hosts. Seconds of
`ansible-playbook`, medians of three rounds: with a task that does nothing, with `egress_compile`, and with 50
assertions besides, each about all packets from a group's hosts. The last columns are what compiling and proving add.

| hosts | grants a host | nothing | compile | and prove | compiling | proving |
| --: | --: | --: | --: | --: | --: | --: |"""
ROOT = Path(__file__).resolve().parents[2]
NOTHING: dict[str, Any] = {"ansible.builtin.debug": {"msg": "nothing"}, "run_once": True}
COMPILE: dict[str, Any] = {"palisade.egress.egress_compile": {}, "run_once": True}


def seconds(folder: Path, inventory: Path, task: dict[str, Any], variables: dict[str, Any]) -> float:
    """Return how long a play of one task takes, with all that ansible-playbook does around it."""
    playbook = folder / "play.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]), encoding="utf-8")
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "ANSIBLE_HOME": str(ROOT / ".cache" / "ansible"),
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(playbook)]
    command += ["-e", json.dumps(variables)]
    start = monotonic()
    done = subprocess.run(
        command, env={**environment, **os.environ}, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return monotonic() - start


def assertions(hosts: int) -> dict[str, Any]:
    """Return 50 that hold, on as many groups as there are."""
    groups = max(1, hosts // GROUP)
    asserted = [
        {"from": f"group:role{n % groups}", "to": "any", "service": ASSERTED[n // groups % len(ASSERTED)]}
        for n in range(50)
    ]
    return {"egress_firewall_assertions": [{**each, "expect": "denied"} for each in asserted]}


def row(hosts: int, roles: int) -> str:
    """Measure one fleet, the three plays in turn, and return a line of the table."""
    plays = ((NOTHING, {}), (COMPILE, {}), (COMPILE, assertions(hosts)))
    with TemporaryDirectory(prefix="palisade-bench-") as name:
        folder = Path(name)
        inventory = write(hosts, folder / "inventory", roles)
        rounds = [[seconds(folder, inventory, *play) for play in plays] for _ in range(ROUNDS)]
    nothing, compiled, proven = (median(column) for column in zip(*rounds, strict=True))
    added = (median(b - a for a, b, _c in rounds), median(c - b for _a, b, c in rounds))
    columns = (nothing, compiled, proven, *added)
    return f"| {hosts:,} | {15 * roles} | " + " | ".join(f"{seconds:.1f}" for seconds in columns) + " |"


def main() -> None:
    """Measure, and print the table."""
    print(INTRODUCTION)
    for hosts, roles in FLEETS:
        print(row(hosts, roles), flush=True)


if __name__ == "__main__":
    main()
