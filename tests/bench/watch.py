# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for Python on the managed node: runs it, and writes down how much memory each program needed at most.

`python watch.py FILE ARGUMENT…` writes a JSON object, kilobytes by program, to FILE. What the kernel itself counts
for a child (`ru_maxrss`) would not do: it begins with what the parent had when it forked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep

INTERVAL = 0.005


def main() -> None:
    """Run Python and end as it ends."""
    notes, *arguments = sys.argv[1:]
    peaks: dict[str, int] = {}
    child = subprocess.Popen([sys.executable, *arguments])
    while child.poll() is None:
        for pid in _family(child.pid):
            _note(pid, peaks)
        sleep(INTERVAL)
    Path(notes).write_text(json.dumps(peaks), encoding="utf-8")
    sys.exit(child.returncode)


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _note(pid: int, peaks: dict[str, int]) -> None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if "VmHWM" in values:
        # A child is a copy of the module until it becomes another program.
        name = "module" if values["Name"].startswith("python") else values["Name"]
        peaks[name] = max(peaks.get(name, 0), int(values["VmHWM"].split()[0]))


if __name__ == "__main__":
    main()
