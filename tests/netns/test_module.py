# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module egress_rule as the process that it is on a managed node, on the oldest Python, ours, and the newest."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible
import pytest
import yaml
from netns.namespace import Namespace, namespace
from property.strategies import rulesets, samples

ROOT = Path(__file__).resolve().parents[2]
MODULE = "ansible_collections.palisade.egress.plugins.modules.egress_rule"
PATHS = [str(ROOT / ".cache" / "collections"), str(Path(ansible.__file__).parents[1])]
PYTHONS = ["python3.8", sys.executable, "python3.13"]
# What stands before a command that finds no nft: an empty file hides it.
WITHOUT_NFT = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$(command -v nft)" && exec "$@"', "sh")

Plain = dict[str, Any]

WEB: Plain = {"name": "web", "chain": "output", "action": "accept", "protocol": "tcp", "destination_ports": [443]}
DOZEN = [f"198.51.100.{2 * number}" for number in range(12)]


@dataclass(frozen=True)
class Module:
    """The module, run by one Python in a network namespace."""

    netns: Namespace
    python: str = sys.executable

    def __call__(self, *, check: bool = False, diff: bool = False, **arguments: Any) -> Plain:
        """Return its answer."""
        internal = {"_ansible_check_mode": check, "_ansible_diff": diff}
        result = self.netns.run(
            ["env", f"PYTHONPATH={os.pathsep.join(PATHS)}", "PYTHONDONTWRITEBYTECODE=1", self.python, "-m", MODULE],
            json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **internal}}),
        )
        assert "Traceback" not in result.error, result.error
        answer: Plain = json.loads(result.output)
        assert bool(answer.get("failed")) == (result.code != 0)
        return answer


@pytest.fixture
def module(netns: Namespace) -> Module:
    """Return the module, run by the Python that we are."""
    return Module(netns)


@pytest.fixture(params=PYTHONS, ids=[Path(python).name for python in PYTHONS])
def each_python(request: pytest.FixtureRequest, netns: Namespace, other_versions: Path) -> Module:
    """Return the module, run by the oldest Python that it supports, the one that we are, or the newest."""
    python = str(other_versions / request.param)
    netns.must(f"{python} --version")
    return Module(netns, python)


def examples() -> list[Plain]:
    source = (ROOT / "plugins" / "modules" / "egress_rule.py").read_text(encoding="utf-8")
    tasks = yaml.safe_load(source.partition('EXAMPLES = r"""')[2].partition('"""')[0])
    return [task["palisade.egress.egress_rule"] for task in tasks]


def test_check_mode_gives_the_plan_of_the_real_run(each_python: Module) -> None:
    netns = each_python.netns
    arguments = {"rules": [WEB, {**WEB, "name": "x", "destination": DOZEN}], "chains": {"output": {"default": "drop"}}}
    checked = each_python(check=True, **arguments)
    assert checked["changed"]
    assert netns.everything() == ""
    real = each_python(**arguments)
    assert real["changed"]
    assert real["plan"] == checked["plan"]
    assert [(change["change"], change["what"]) for change in real["plan"]] == [
        ("added", "ruleset"), ("added", "chain"), ("added", "rule"), ("added", "rule"),
    ]  # fmt: skip
    again = each_python(**arguments)
    assert (again["changed"], again["plan"]) == (False, [])

    arguments["rules"] = [{**WEB, "action": "reject"}]
    before = netns.everything()
    checked = each_python(check=True, **arguments)
    assert netns.everything() == before
    assert each_python(**arguments)["plan"] == checked["plan"]
    assert netns.everything() != before


@pytest.mark.parametrize("ruleset", samples(rulesets(), 3, 5), ids=["one", "another", "a third"])
def test_any_ruleset(ruleset: tuple[list[Plain], Plain], each_python: Module) -> None:
    rules, chains = ruleset
    checked = each_python(check=True, rules=rules, chains=chains)
    assert each_python(rules=rules, chains=chains)["plan"] == checked["plan"]
    again = each_python(rules=rules, chains=chains)
    assert (again["changed"], again["plan"]) == (False, [])


def test_absent_leaves_nothing(each_python: Module) -> None:
    assert not each_python(state="absent")["changed"]
    each_python(rules=[WEB])
    assert each_python.netns.everything()
    assert each_python(state="absent", check=True)["changed"]
    assert each_python.netns.everything()
    assert each_python(state="absent")["changed"]
    assert each_python.netns.everything() == ""
    assert not each_python(state="absent")["changed"]


def test_the_diff_reads_well(module: Module) -> None:
    many = {**WEB, "name": "many", "action": "drop", "destination": DOZEN}
    chains = {"output": {"default": "drop"}}
    module(rules=[WEB, many], chains=chains)
    module.netns.nft("insert rule inet palisade_egress output accept")
    rules = [{**many, "destination": DOZEN[1:]}, {**WEB, "comment": "why"}]
    diff = module(rules=rules, chains=chains, diff=True, check=True)["diff"]
    assert (diff["before_header"], diff["after_header"]) == ("rules in the kernel", "rules wanted")
    addresses = [f"      {address}\n" for address in DOZEN]
    before = [
        "chain output: default drop, priority 0\n",
        "  web: accept tcp port 443\n",
        "  many: drop ipv4 tcp to 12 entries: port 443\n",
        *addresses,
    ]
    after = [
        "chain output: default drop, priority 0\n",
        "  many: drop ipv4 tcp to 11 entries: port 443\n",
        *addresses[1:],
        "  web: accept tcp port 443  # why\n",
    ]
    assert diff["before"].startswith("".join(before))
    assert diff["before"].count("stray: rule without a name (handle ") == 1
    assert diff["after"] == "".join(after)


def test_no_diff_where_nothing_differs(module: Module) -> None:
    module(rules=[WEB], diff=True)
    assert "diff" not in module(rules=[WEB], diff=True)


@pytest.mark.parametrize("arguments", examples(), ids=lambda arguments: arguments.get("state", "present"))
def test_examples(arguments: Plain, module: Module) -> None:
    module(rules=[WEB])
    checked = module(check=True, **arguments)
    assert checked["changed"]
    assert module(**arguments)["plan"] == checked["plan"]
    assert not module(**arguments)["changed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"rules": [{**WEB, "destination_ports": [70000]}]},
            "rule 'web' (rules[0]).destination_ports: port 70000 is",
        ),
        ({"rules": [{**WEB, "source": []}]}, "rule 'web' (rules[0]).source: is an empty list"),
        ({"rules": ["x" * 2**20]}, "rules[0]: must be a dictionary, not text"),
        ({"rules": [{**WEB, "cgroup": ["system.slice"]}]}, "rule 'web' in output.cgroup: is not supported yet"),
        (
            {"rules": [{**WEB, "uid_owner": ["nobody-at-all"]}]},
            "rule 'web' in output.uid_owner: this host does not",
        ),
        ({"rules": [WEB], "chains": {"output": {"default": "deny"}}}, "chains.output.default: 'deny' is not possible"),
        ({"rules": [WEB], "state": "absent"}, "rules: goes with state: present only"),
        ({"state": "present"}, "state is present but all of the following are missing: rules"),
        ({"rules": [WEB], "rulez": [WEB]}, "Unsupported parameters"),
    ],
)
def test_errors_leave_the_kernel_as_it_was(arguments: Plain, message: str, module: Module) -> None:
    module(rules=[{**WEB, "action": "drop"}])
    before = module.netns.everything()
    for check in (True, False):
        answer = module(check=check, **arguments)
        assert answer["failed"]
        assert message in answer["msg"]
        assert module.netns.everything() == before


def test_owners_by_name(module: Module) -> None:
    module(rules=[{**WEB, "uid_owner": ["root", "daemon"], "gid_owner": ["root"]}])
    listing = module.netns.must("nft list table inet palisade_egress")
    assert "meta skuid { 0, 1 } meta skgid 0" in listing
    assert not module(rules=[{**WEB, "uid_owner": [1, 0], "gid_owner": ["0"]}])["changed"]


def test_midstream_is_for_the_first_apply(module: Module) -> None:
    arguments = {"rules": [WEB], "midstream": "on_first_apply"}
    first = module(**arguments)
    assert first["midstream"]
    assert "palisade/midstream" in module.netns.everything()
    second = module(**arguments)
    assert not second["midstream"]
    assert [(change["change"], change["name"]) for change in second["plan"]] == [("removed", "palisade/midstream")]
    assert not module(**arguments)["changed"]


@pytest.fixture
def bare() -> Iterator[Module]:
    """Return the module on a host that has no nft."""
    with namespace(*WITHOUT_NFT) as netns:
        yield Module(netns)


def test_without_nft(bare: Module) -> None:
    checked = bare(check=True, rules=[WEB])
    assert [change["change"] for change in checked["plan"]] == ["added"] * 3
    assert "nft is not installed here yet" in str(checked["warnings"])
    answer = bare(rules=[WEB])
    assert answer["failed"]
    assert answer["msg"] == "nft list table: the program nft is not installed. Install the package nftables."


def test_without_the_right() -> None:
    with namespace("setpriv", "--bounding-set=-net_admin") as netns:
        for check in (True, False):
            answer = Module(netns)(check=check, rules=[WEB])
            assert answer["failed"]
            assert "it may not change the kernel's rules" in answer["msg"]
