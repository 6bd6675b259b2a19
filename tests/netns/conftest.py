# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away network namespaces: each has an nf_tables of its own, and the machine's is never touched.

The collection is imported in the fixtures only: pytest-ansible sees to its imports after conftest files are loaded.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netns.namespace import Namespace

    from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def netns() -> Iterator[Namespace]:
    """Return an empty network namespace."""
    from netns.namespace import namespace

    with namespace() as fresh:
        yield fresh


@pytest.fixture
def box() -> Iterator[Namespace]:
    """Return an empty network namespace that has files of its own, too: saved rules, units, what is in /run."""
    from netns.namespace import machine

    with machine() as fresh:
        yield fresh


@pytest.fixture
def backend(netns: Namespace) -> Nftables:
    """Return the backend for the kernel of the namespace."""
    from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables

    return Nftables(netns.run)


@pytest.fixture(scope="session")
def other_versions() -> Path:
    """Return the directory that holds other versions of nft and Python."""
    subprocess.run([ROOT / "tests" / "netns" / "other-versions"], check=True)
    return ROOT / ".cache" / "versions"


@pytest.fixture(scope="session")
def nft_roots(other_versions: Path) -> Path:
    """Return the directory that has a root with each other version of nft in it."""
    return other_versions / "nft"


@pytest.fixture(params=["here", "1.0.2", "1.1.3"])
def each_nft(request: pytest.FixtureRequest, nft_roots: Path) -> Iterator[Namespace]:
    """Return an empty network namespace in which ``nft`` is that of this machine, the oldest, and Debian 13's."""
    from netns.namespace import namespace

    wrapper = [] if request.param == "here" else ["chroot", str(nft_roots / request.param)]
    with namespace(*wrapper) as fresh:
        version = fresh.must("nft --version")
        assert request.param == "here" or f"v{request.param} " in version
        yield fresh
