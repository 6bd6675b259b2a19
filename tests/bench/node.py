# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A managed node to measure: a network namespace that begins empty, and Ansible with its defaults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from netns.namespace import Namespace, namespace

HERE = Path(__file__).resolve().parent

Task = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """How long one task took, and the whole `ansible-playbook` around it."""

    task: float
    run: float


@dataclass(frozen=True)
class Node:
    """The namespace, and a directory for what the runs need."""

    namespace: Namespace
    directory: Path

    def play(
        self, task: Task, variables: dict[str, Any], *, changed: bool, interpreter: str = sys.executable
    ) -> Timing:
        """Run a playbook of one task, which has to change something or nothing, as `changed` says."""
        play = {"hosts": "node", "connection": "local", "gather_facts": False, "tasks": [task]}
        playbook = self._write("playbook.json", [{**play, "vars": {"ansible_python_interpreter": interpreter}}])
        given = self._write("variables.json", variables)
        start = monotonic()
        output = self._run("ansible-playbook", "--inventory=node,", f"--extra-vars=@{given}", str(playbook))
        run = monotonic() - start
        end = json.loads(output.splitlines()[-1])
        if end.get("changed") is not changed:
            raise RuntimeError(f"{next(iter(task))} did not end as it should: {end}")
        return Timing(end["seconds"], run)

    def load(self, script: str) -> float:
        """Have nft load a file, and return how long that took."""
        path = self.directory / "script.nft"
        path.write_text(script, encoding="utf-8")
        start = monotonic()
        self._run("nft", "-f", str(path))
        return monotonic() - start

    def peaks(self, task: Task, variables: dict[str, Any], *, changed: bool) -> dict[str, float]:
        """Return the megabytes that each program on the node needed for a task at most."""
        notes = self.directory / "memory.json"
        watched = self.directory / "python3"
        watched.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE}/watch.py {notes} "$@"\n', encoding="utf-8")
        watched.chmod(0o755)
        self.play(task, variables, changed=changed, interpreter=str(watched))
        return {name: kilobytes / 1000 for name, kilobytes in json.loads(notes.read_text(encoding="utf-8")).items()}

    def _write(self, name: str, content: object) -> Path:
        path = self.directory / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def _run(self, *command: str) -> str:
        environment = {
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_STDOUT_CALLBACK": "stopwatch",
            "ANSIBLE_LIBRARY": str(HERE / "library"),
            "ANSIBLE_REMOTE_TMP": str(self.directory / "remote"),
        }
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.namespace.name}", *command],
            env={**os.environ, **environment}, cwd=self.directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
        return done.stdout


@contextmanager
def node(directory: Path) -> Iterator[Node]:
    """Make a node and take it away again.

    A new one waits until the kernel has freed what the last one held, which would else slow down what comes next.
    """
    with namespace() as fresh:
        yield Node(fresh, directory)
