# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs plays against inventories that a test writes; no host is ever connected to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
LAB = ROOT / "molecule" / "lab" / "inventory"


def write_inventory(folder: Path, hosts: dict[str, Any], group_vars: dict[str, Any]) -> Path:
    """Write an inventory folder: ``hosts`` is the YAML inventory, ``group_vars`` the variables by group."""
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.json").write_text(json.dumps(hosts), encoding="utf-8")
    for group, variables in group_vars.items():
        (folder / "group_vars" / f"{group}.json").write_text(json.dumps(variables), encoding="utf-8")
    return folder


def run_play(folder: Path, inventory: Path, play: dict[str, Any], *arguments: str) -> tuple[int, str]:
    """Run one play on all hosts; return exit code and output."""
    playbook = folder / "play.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, **play}]), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folder / "facts"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(playbook), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    return done.returncode, done.stdout + done.stderr
