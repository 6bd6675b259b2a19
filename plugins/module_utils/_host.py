# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of the host itself bears on its fence, read from the kernel's own files. Private to this collection."""

from __future__ import annotations

from pathlib import Path
from typing import List

FORWARDING = {"ipv4": "net/ipv4/ip_forward", "ipv6": "net/ipv6/conf/all/forwarding"}


def forwarded_families(sysctls: Path = Path("/proc/sys")) -> List[str]:
    """Return the families (ipv4, ipv6) that the host forwards packets of."""
    return [family for family, name in FORWARDING.items() if _reads_one(sysctls / name)]


def bridges(interfaces: Path = Path("/sys/class/net")) -> List[str]:
    """Return the names of bridges, behind which containers or virtual machines may live."""
    return sorted(path.parent.name for path in interfaces.glob("*/bridge"))


def _reads_one(path: Path) -> bool:
    try:
        return path.read_text(encoding="ascii").strip() == "1"
    except FileNotFoundError:
        # A kernel without this family.
        return False
