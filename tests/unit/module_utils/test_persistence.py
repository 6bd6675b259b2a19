# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved rules: generations on a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._persistence import forget, generations, save, saved


def test_nothing_is_saved_at_first(tmp_path: Path) -> None:
    assert saved(tmp_path / "none") is None


def test_the_last_one_counts_and_those_before_it_are_kept(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    for number in range(5):
        save(f"rules {number}\n", 3, directory)
        assert saved(directory) == f"rules {number}\n"
    assert [path.read_text() for path in generations(directory)] == ["rules 2\n", "rules 3\n", "rules 4\n"]


def test_others_cannot_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    save("rules\n", 1, directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "current").stat().st_mode & 0o777 == 0o600


def test_a_crash_before_the_link_turns_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("old\n", 5, tmp_path)

    def crash(_link: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(KernelError, match="the rules cannot be saved"):
            save("new\n", 5, tmp_path)
    assert saved(tmp_path) == "old\n"
    save("newer\n", 5, tmp_path)
    assert saved(tmp_path) == "newer\n"


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    save("rules\n", 1, directory)
    forget(directory)
    forget(directory)
    assert not directory.exists()
