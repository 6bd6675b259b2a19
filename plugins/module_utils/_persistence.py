# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules that the next boot loads, and those before them. Private to this collection.

A generation is a file that ``nft -f`` loads whatever is there, and beside it what the module was asked for: rules,
chains, forwarding. ``current`` is a link to the one that counts. What is new is on the disk, as ``next``, before
anything is applied; after that it takes three renames to make it count, so that a crash leaves the old rules or the new
ones, whole.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError

DIRECTORY = Path("/var/lib/palisade-egress")


@dataclass(frozen=True)
class Generation:
    """Saved rules: their number, when they were saved (seconds since 1970), and whether the next boot loads them."""

    number: int
    saved: int
    is_current: bool


def saved(directory: Path = DIRECTORY) -> Optional[str]:
    """Return the text of the current generation, or None if there is none."""
    try:
        return (directory / "current").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def prepare(text: str, contract: Dict[str, Any], directory: Path = DIRECTORY) -> None:
    """Write what ``commit`` makes the current generation; raises ``KernelError`` where the disk refuses."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(directory / "next.nft", text)
        write(directory / "next.json", json.dumps(contract))
        _sync(directory)
    except OSError as error:
        what = f"the rules cannot be saved ({error})"
        raise KernelError(str(directory), what, "make room there: nothing was changed") from error


def commit(keep: int, directory: Path = DIRECTORY) -> None:
    """Make what was prepared the current generation and keep so many; raises ``KernelError`` where the disk refuses."""
    name = f"rules-{max((each.number for each in generations(directory)), default=0) + 1:08}"
    try:
        (directory / "next.json").rename(directory / f"{name}.json")
        (directory / "next.nft").rename(directory / f"{name}.nft")
        link = directory / "next"
        if link.is_symlink():
            link.unlink()
        link.symlink_to(f"{name}.nft")
        link.rename(directory / "current")
        _sync(directory)
        _forget_all_but(keep, directory)
    except OSError as error:
        mend = "make room there and run the play again: the rules hold, but the next boot loads those before them"
        raise KernelError(str(directory), f"the rules cannot be saved ({error})", mend) from error


def forget(directory: Path = DIRECTORY) -> None:
    """Leave nothing for the next boot to load."""
    try:
        if directory.exists():
            shutil.rmtree(directory)
    except OSError as error:
        raise KernelError(str(directory), f"it cannot be removed ({error})", "remove it by hand") from error


def discard(directory: Path = DIRECTORY) -> None:
    """Remove what was prepared and never made to count."""
    for name in ("next.nft", "next.json", "next"):
        # On a disk that refuses this, the next one to prepare anything says so.
        with suppress(OSError):
            (directory / name).unlink()


def generations(directory: Path = DIRECTORY) -> List[Generation]:
    """Return all generations, the oldest first."""
    current = (directory / "current").resolve()
    paths = sorted(directory.glob("rules-*.nft"))
    return [Generation(_number(path), int(path.stat().st_mtime), path.resolve() == current) for path in paths]


def contract_of(number: int, directory: Path = DIRECTORY) -> Dict[str, Any]:
    """Return what the module was asked for then; raises ``KernelError`` where there is no generation of this number."""
    try:
        contract: Dict[str, Any] = json.loads((directory / f"rules-{number:08}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = ", ".join(str(each.number) for each in generations(directory)) or "none"
        raise KernelError("generation", f"{number} cannot be read here", f"name one that is here: {known}") from None
    return contract


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _forget_all_but(keep: int, directory: Path) -> None:
    for old in generations(directory)[:-keep]:
        if not old.is_current:
            for kind in ("nft", "json"):
                path = directory / f"rules-{old.number:08}.{kind}"
                if path.exists():
                    path.unlink()


def write(path: Path, text: str) -> None:
    """Have a text on the disk, for root alone."""
    with path.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
