# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules that the next boot loads, and those before them. Private to this collection.

A generation is a file that ``nft -f`` loads whatever is there; ``current`` is a link to the one that counts. A new
generation is on the disk before the link turns to it, so that a crash leaves the old one or the new one, whole.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List, Optional

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError

DIRECTORY = Path("/var/lib/palisade-egress")


def saved(directory: Path = DIRECTORY) -> Optional[str]:
    """Return the text of the current generation, or None if there is none."""
    try:
        return (directory / "current").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def save(text: str, keep: int, directory: Path = DIRECTORY) -> None:
    """Make this text the current generation and keep so many; raises ``KernelError`` where the disk refuses."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        generation = directory / _new_name(directory)
        _write(generation, text)
        link = directory / "next"
        if link.is_symlink():
            link.unlink()
        link.symlink_to(generation.name)
        link.rename(directory / "current")
        _sync(directory)
        for old in generations(directory)[:-keep]:
            old.unlink()
    except OSError as error:
        mend = "make room there, then run the play again: the rules hold until the next boot"
        raise KernelError(str(directory), f"the rules cannot be saved ({error})", mend) from error


def forget(directory: Path = DIRECTORY) -> None:
    """Leave nothing for the next boot to load."""
    if directory.exists():
        shutil.rmtree(directory)


def generations(directory: Path = DIRECTORY) -> List[Path]:
    """Return all generations, the oldest first."""
    return sorted(path for path in directory.glob("rules-*.nft") if not path.is_symlink())


def _new_name(directory: Path) -> str:
    """Return the name of the next generation; names sort as generations follow each other."""
    last = max((int(path.stem[len("rules-") :]) for path in generations(directory)), default=0)
    return f"rules-{last + 1:08}.nft"


def _write(path: Path, text: str) -> None:
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
