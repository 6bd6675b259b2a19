# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a bare `pytest` see the same collection as `make test` does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# At import, because pytest-ansible reads it before any fixture runs.
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".cache" / "collections"))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.setdefault("ANSIBLE_HOME", str(ROOT / ".cache" / "ansible"))

# Kernel and busy machine set the pace here: a slow example is no failure. Every run tries the same examples.
settings.register_profile("palisade", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("palisade")
