# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users install: build the collection, install the result elsewhere, look at it from there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    "CHANGELOG.rst", "COPYING", "FILES.json", "MANIFEST.json", "README.md",
    "changelogs", "docs", "meta", "playbooks", "plugins", "roles",
}  # fmt: skip


def run(*command: str, cwd: Path, collections: Path) -> str:
    """Run away from the checkout, so that nothing is found there by chance."""
    environment = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_HOME": str(cwd / "home"),
        "ANSIBLE_LOCAL_TEMP": str(cwd / "tmp"),
    }
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collections directory that holds nothing but our built collection."""
    work = tmp_path_factory.mktemp("build")
    target = work / "collections"
    run("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(work), cwd=work, collections=target)
    (archive,) = work.glob("palisade-egress-*.tar.gz")
    run(
        "ansible-galaxy", "collection", "install", str(archive), "--offline", "--collections-path", str(target),
        cwd=work, collections=target,
    )  # fmt: skip
    return target


def test_contents(collections: Path) -> None:
    installed = collections / "ansible_collections" / "palisade" / "egress"
    assert {path.name for path in installed.iterdir()} == SHIPPED
    assert not list(installed.rglob("__pycache__"))
    assert (installed / "roles" / "egress_firewall" / "meta" / "argument_specs.yml").is_file()
    assert (installed / "playbooks" / "site.yml").is_file()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("module", "egress_rule"), ("filter", "egress_policy"), ("role", "egress_firewall")],
)
def test_documentation_is_found(collections: Path, tmp_path: Path, kind: str, name: str) -> None:
    text = run("ansible-doc", "--type", kind, f"palisade.egress.{name}", cwd=tmp_path, collections=collections)
    assert f"palisade.egress.{name}" in text.lower()


def test_playbook_is_found_by_its_name(collections: Path, tmp_path: Path) -> None:
    run("ansible-playbook", "--syntax-check", "palisade.egress.site", cwd=tmp_path, collections=collections)
