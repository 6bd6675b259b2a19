# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of the host itself bears on its fence, read from the kernel's own files. Private to this collection."""

from __future__ import annotations

from pathlib import Path
from typing import List


def bridges(interfaces: Path = Path("/sys/class/net")) -> List[str]:
    """Return the names of bridges, behind which containers or virtual machines may live."""
    return sorted(path.parent.name for path in interfaces.glob("*/bridge"))
