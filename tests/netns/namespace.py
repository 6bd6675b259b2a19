# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running programs in network namespaces that are gone afterwards."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.palisade.egress.plugins.module_utils._run import ENVIRONMENT, Result

_numbers = itertools.count()


@dataclass(frozen=True)
class Namespace:
    """A network namespace; ``wrapper`` stands before each command that runs in it."""

    name: str
    wrapper: tuple[str, ...] = ()

    def run(self, command: list[str], data: str = "") -> Result:
        """Be a ``Run``: give what the command left, whatever its status."""
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.name}", *self.wrapper, *command],
            input=data, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def must(self, command: str, data: str = "") -> str:
        """Return the output of a command, its words apart by blanks, that has to succeed."""
        result = self.run(command.split(), data)
        assert result.code == 0, f"{command}: {result.error}"
        return result.output

    def nft(self, commands: str) -> None:
        """Have nft run these commands."""
        self.must("nft -f -", commands)

    def everything(self) -> str:
        """Return all that nf_tables holds, without counts and timeouts that go on by themselves."""
        return self.must("nft -s list ruleset")


@contextmanager
def namespace(*wrapper: str) -> Iterator[Namespace]:
    """Make a network namespace and take it away again."""
    name = f"palisade-test-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Namespace(name, wrapper)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
