# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks that answer questions, run for real: on the controller alone, whatever the inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.plugin_utils.playbooks import write_inventory

# Nobody answers there: what connects to a host fails.
HOSTS = {
    "all": {
        "vars": {"ansible_connection": "ssh", "ansible_ssh_common_args": "-o ConnectTimeout=1"},
        "children": {
            "web": {"hosts": {"web1": {"ansible_host": "192.0.2.11"}, "web2": {"ansible_host": "192.0.2.12"}}},
            "mail": {"hosts": {"mail1": {"ansible_host": "192.0.2.10"}}},
        },
    }
}
NETWORKS = {"resolvers": ["192.0.2.53"], "time_servers": [], "relays": ["203.0.113.25"]}
GROUP_VARS: dict[str, dict[str, Any]] = {"all": {"egress_firewall_networks": NETWORKS}}


def run(playbook: str, inventory: Path, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), f"palisade.egress.{playbook}"]
    done = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, check=False, cwd=inventory.parent
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    return write_inventory(tmp_path / "inventory", HOSTS, GROUP_VARS)


QUESTION = {"from": "web1", "to": "203.0.113.10", "service": "smtp"}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            {},
            0,
            ["web1 → 203.0.113.10, smtp: denied", "shipped profiles.web.forbids[0]", "egress_firewall_waivers__web1"],
        ),
        ({"to": "resolvers", "service": "dns"}, 0, ["web1 → resolvers, dns: allowed", "base/dns"]),
        ({"to": "mail1", "service": "tcp/22"}, 0, ["web1 → host:mail1, tcp-22: denied", "egress_firewall_allow__web1"]),
        ({"from": "web9"}, 2, ["there is no host 'web9'"]),
        ({"service": "smpt"}, 2, ["Did you mean 'smtp'?"]),
        ({"from": ""}, 2, ["Say from, to and service"]),
    ],
    ids=str,
)
def test_explain(inventory: Path, change: dict[str, str], code: int, words: list[str]) -> None:
    question = [word for key, value in {**QUESTION, **change}.items() for word in ("-e", f"{key}={value}")]
    found, output = run("explain", inventory, *question)
    assert found == code, output
    assert [word for word in words if word not in output] == []


ALLOW = "egress_firewall_allow__web"
# group_vars of the old and the new inventory beside the common ones, what is told, and what the JSON says
PLANS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], list[tuple[str, list[str], list[str]]]]] = {
    "nothing": ({}, {}, ["Nothing changes on any host"], []),
    "written otherwise": (
        {"web": {ALLOW: [{"service": "ssh", "to": ["192.0.2.0/25", "192.0.2.128/25"]}]}},
        {"web": {ALLOW: [{"service": "ssh", "to": "192.0.2.0/24", "reason": "the same"}]}},
        ["Nothing changes on any host"],
        [],
    ),
    "more and less": (
        {"web": {ALLOW: [{"service": "ssh", "to": "203.0.113.0/24"}]}},
        {"web": {ALLOW: [{"service": "ssh", "to": "203.0.113.64/26"}, {"service": "https", "to": "203.0.113.7"}]}},
        [
            "web1, web2",
            "+ newly allowed: tcp port 443 to 203.0.113.7 ('web/https')",
            "- newly denied",
            "1 host unchanged",
        ],
        [("changed", ["web1", "web2"], ["allowed", "denied"])],
    ),
    "removed": (
        {},
        {"mail": {"egress_firewall_state": "absent"}},
        ["mail1 (its rules are removed: everything passes)"],
        [("removed", ["mail1"], ["allowed", "allowed"])],
    ),
    "gone": ({}, {"mail": {"egress_firewall_managed": False}}, ["no longer managed"], [("gone", ["mail1"], [])]),
    "new": (
        {"mail": {"egress_firewall_managed": False}},
        {},
        ["mail1 (new: fenced in from now on, and may reach)", "tcp port 25 to relays ('mail/smtp')"],
        [("new", ["mail1"], ["allowed"])],
    ),
}


@pytest.mark.parametrize(("old", "new", "words", "expected"), PLANS.values(), ids=PLANS)
def test_plan(tmp_path: Path, old: dict[str, Any], new: dict[str, Any], words: list[str], expected: list[Any]) -> None:
    before = write_inventory(tmp_path / "old", HOSTS, {**GROUP_VARS, **old})
    after = write_inventory(tmp_path / "new", HOSTS, {**GROUP_VARS, **new})
    code, output = run("plan", after, "-e", f"against={before}", "-e", f"json={tmp_path / 'plan.json'}")
    assert code == 0, output
    assert [word for word in words if word not in output] == [], output
    found = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    told = [
        (group["state"], group["hosts"], sorted({flow["change"] for flow in group["flows"]}))
        for group in found["changes"]
    ]
    assert told == [(state, hosts, sorted(set(kinds))) for state, hosts, kinds in expected]


def test_plan_proves_the_new_inventory_only(tmp_path: Path) -> None:
    broken = {"from": "group:web", "to": "any", "service": "smtp", "expect": "allowed"}
    with_assertion = {"all": {**GROUP_VARS["all"], "egress_firewall_assertions": [broken]}}
    good = write_inventory(tmp_path / "good", HOSTS, GROUP_VARS)
    bad = write_inventory(tmp_path / "bad", HOSTS, with_assertion)
    assert run("plan", good, "-e", f"against={bad}")[0] == 0
    code, output = run("plan", bad, "-e", f"against={good}")
    assert code == 2
    assert "egress_firewall_assertions[0]" in output


@pytest.mark.parametrize(
    ("against", "message"),
    [
        (None, "Say what to compare with"),
        ("{}/nowhere", "there is no such file or folder"),
        ("{}/empty", "ansible finds no host there"),
    ],
)
def test_plan_against_nothing(inventory: Path, against: str | None, message: str) -> None:
    (inventory.parent / "empty").mkdir()
    arguments = [] if against is None else ["-e", f"against={against.format(inventory.parent)}"]
    code, output = run("plan", inventory, *arguments)
    assert code == 2
    assert message in output


def test_site_stops_before_any_host_is_touched(tmp_path: Path) -> None:
    broken = {"from": "group:web", "to": "relays", "service": "smtp", "expect": "allowed"}
    variables = {"all": {**GROUP_VARS["all"], "egress_firewall_assertions": [broken]}}
    code, output = run("site", write_inventory(tmp_path / "inventory", HOSTS, variables))
    assert code == 2
    assert "web1 → 203.0.113.25 tcp port 25 is dropped by the rule 'forbid/web/smtp'" in output
    assert "UNREACHABLE" not in output
