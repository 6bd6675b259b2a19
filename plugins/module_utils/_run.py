# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a backend runs the system's programs. Private to this collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List

# The listing is to be the same on every host: times in UTC, messages in English.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Result:
    """What a program left: exit status, standard output and error; ``missing`` if there is no such program."""

    code: int
    output: str = ""
    error: str = ""
    missing: bool = False

    @property
    def trouble(self) -> str:
        """Tell on one short line why the program failed."""
        if self.missing:
            return "it is not installed"
        return " ".join(self.error.split())[:200] or f"it ended with status {self.code}"


# Runs a program (its arguments, its standard input) with ENVIRONMENT and returns its result.
Run = Callable[[List[str], str], Result]
