# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock that keeps runs apart, where others remove what it is in; tests/netns has the rest, on real hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.palisade.egress.plugins.module_utils import _watchdog


def test_a_directory_that_somebody_removes_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, calls = Path.mkdir, []

    def removed_at_once(path: Path, **options: Any) -> None:
        calls.append(path)
        if len(calls) > 1:
            mkdir(path, **options)

    monkeypatch.setattr(_watchdog, "STATE", tmp_path / "state")
    monkeypatch.setattr(Path, "mkdir", removed_at_once)
    with _watchdog.only_one():
        assert _watchdog.lock_path().exists()
    assert len(calls) == 2
