# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python tests/bench/compile_bench.py [HOSTS…]` measures how long a fleet takes to compile.

As users meet it: what `ansible-playbook` takes longer with `egress_compile` than with a task that does nothing. Prints
a table in Markdown. Default are 1,000 and 10,000 hosts.
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
from fleet import write

ROUNDS = 3
ROOT = Path(__file__).resolve().parents[2]
NOTHING: dict[str, Any] = {"ansible.builtin.debug": {"msg": "nothing"}, "run_once": True}
COMPILE: dict[str, Any] = {"palisade.egress.egress_compile": {}, "run_once": True}


def seconds(folder: Path, inventory: Path, task: dict[str, Any]) -> float:
    """Return how long a play of one task takes, with all that ansible-playbook does around it."""
    playbook = folder / "play.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]), encoding="utf-8")
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "ANSIBLE_HOME": str(ROOT / ".cache" / "ansible"),
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(playbook)]
    start = monotonic()
    done = subprocess.run(
        command, env={**environment, **os.environ}, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return monotonic() - start


def row(hosts: int, roles: int) -> str:
    """Measure one fleet, the two plays in turn, and return a line of the table."""
    with TemporaryDirectory(prefix="palisade-bench-") as name:
        folder = Path(name)
        inventory = write(hosts, folder / "inventory", roles)
        rounds = [[seconds(folder, inventory, task) for task in (NOTHING, COMPILE)] for _ in range(ROUNDS)]
    without, with_it = (median(column) for column in zip(*rounds, strict=True))
    compiled = median(b - a for a, b in rounds)
    each = 1000 * compiled / hosts
    return f"| {hosts:,} | {roles} | {15 * roles} | {without:.1f} | {with_it:.1f} | {compiled:.1f} | {each:.1f} |"


def main() -> None:
    """Measure, and print the table."""
    sizes = [int(size) for size in sys.argv[1:]] or [1_000, 10_000]
    print("| hosts | groups a host | grants a host | without | with | compiled | ms a host |")
    print("| --: | --: | --: | --: | --: | --: | --: |")
    for hosts in sizes:
        for roles in (1, 3):
            print(row(hosts, roles), flush=True)


if __name__ == "__main__":
    main()
