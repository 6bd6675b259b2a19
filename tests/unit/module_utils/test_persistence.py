# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved rules: generations on a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._persistence import (
    commit,
    contract_of,
    forget,
    generations,
    prepare,
    saved,
)


def save(text: str, keep: int, directory: Path) -> None:
    prepare(text, {"rules": [text], "chains": {}}, directory)
    commit(keep, directory)


def test_nothing_is_saved_at_first(tmp_path: Path) -> None:
    assert saved(tmp_path / "none") is None
    assert generations(tmp_path / "none") == []


def test_the_last_one_counts_and_those_before_it_are_kept(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    for number in range(5):
        save(f"rules {number}\n", 3, directory)
        assert saved(directory) == f"rules {number}\n"
    found = generations(directory)
    assert [(each.number, each.is_current) for each in found] == [(3, False), (4, False), (5, True)]
    assert [contract_of(each.number, directory)["rules"] for each in found] == [[f"rules {n}\n"] for n in (2, 3, 4)]
    assert len(list(directory.iterdir())) == 7


def test_what_counts_is_kept_whatever_its_age(tmp_path: Path) -> None:
    for number in range(3):
        save(f"rules {number}\n", 3, tmp_path)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("rules-00000001.nft")
    prepare("new\n", {}, tmp_path)
    assert saved(tmp_path) == "rules 0\n"
    commit(2, tmp_path)
    assert saved(tmp_path) == "new\n"


def test_others_cannot_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    save("rules\n", 1, directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_what_is_prepared_does_not_count_yet(tmp_path: Path) -> None:
    save("old\n", 5, tmp_path)
    prepare("new\n", {}, tmp_path)
    assert saved(tmp_path) == "old\n"
    assert [each.number for each in generations(tmp_path)] == [1]


def test_a_disk_that_refuses_is_found_out_before(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(KernelError, match=r"cannot be saved .*nothing was changed"):
        prepare("new\n", {}, tmp_path / "state")


@pytest.mark.parametrize("renames", range(3))
def test_a_crash_leaves_the_old_one_or_the_new_one(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("old\n", 5, tmp_path)
    prepare("new\n", {}, tmp_path)
    rename, done = Path.rename, []

    def crash(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise OSError(28, "No space left on device")
        done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(KernelError, match="the rules cannot be saved"):
            commit(5, tmp_path)
    assert saved(tmp_path) == "old\n"
    save("newer\n", 5, tmp_path)
    assert saved(tmp_path) == "newer\n"


def test_a_generation_that_is_not_there(tmp_path: Path) -> None:
    save("rules\n", 1, tmp_path)
    with pytest.raises(KernelError, match=r"generation: 7 cannot be read here. Name one that is here: 1"):
        contract_of(7, tmp_path)


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    save("rules\n", 1, directory)
    forget(directory)
    forget(directory)
    assert not directory.exists()
