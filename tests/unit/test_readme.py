# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's inventory is complete, as it says, and means what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.compile(r"^(?P<before>.*?)^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the text before each block of a language, and the block."""
    return [(m["before"], m["text"]) for m in BLOCKS.finditer(README) if m["language"] == language]


def write_inventory(directory: Path) -> None:
    """Write the files that the README names, and what it shows without a name into the variables of all."""
    for before, text in blocks("yaml"):
        named = re.findall(r"`inventory/(\S+?)`: ", before)
        path = directory / (named[-1] if named else f"group_vars/all/{len(list(directory.rglob('*.yml')))}.yml")
        if named == ["group_vars/all.yml"]:
            path = directory / "group_vars" / "all" / "all.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def run(tmp_path: Path, *arguments: str) -> str:
    command = ["ansible-playbook", "-i", str(tmp_path / "inventory"), *arguments]
    # As a shell would: it tells where it is.
    environment = {**os.environ, "PWD": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_inventory_compiles_and_its_assertions_hold(tmp_path: Path) -> None:
    write_inventory(tmp_path / "inventory")
    play = [
        {"hosts": "all", "gather_facts": False, "tasks": [{"palisade.egress.egress_compile": {}, "run_once": True}]}
    ]
    (tmp_path / "play.json").write_text(json.dumps(play), encoding="utf-8")
    assert "ok=1" in run(tmp_path, "play.json")


def test_the_questions_are_answered(tmp_path: Path) -> None:
    write_inventory(tmp_path / "inventory")
    (tmp_path / "main").mkdir()
    write_inventory(tmp_path / "main" / "inventory")
    lines = [
        line for _before, text in blocks("shell") for line in text.splitlines() if "explain" in line or "plan" in line
    ]
    assert len(lines) == 2
    for line in lines:
        words = line.replace("../main/inventory", "main/inventory").split()
        assert run(tmp_path, *words[words.index("inventory") + 1 :])
    assert (tmp_path / "plan.json").exists()
