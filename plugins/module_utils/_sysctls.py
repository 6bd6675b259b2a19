# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the host forwards packets of others, in the kernel's own settings. Private to this collection.

Each interface has a flag, and so have ``all`` and ``default``. To write that of ``all`` writes those of all interfaces,
and more besides: IPv4 then takes ICMP redirects again where forwarding goes off. What decides is, in IPv4, the flag of
the interface by which a packet comes in; in IPv6 that of ``all``, and ``force_forwarding`` in kernels that have it.
"""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from shlex import quote
from typing import Dict, Iterable, List

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES

# Values by path below NET.
Values = Dict[str, str]

NET = Path("/proc/sys/net")
REDIRECTS = "ipv4/conf/all/accept_redirects"
_DECIDING = {
    "ipv4": ("ipv4/conf/*/forwarding",),
    "ipv6": ("ipv6/conf/all/forwarding", "ipv6/conf/*/force_forwarding"),
}
_PATTERNS = [pattern for patterns in _DECIDING.values() for pattern in patterns]
# What changes when the flag of ``all`` does.
_CHANGING = {
    "ipv4": ("ipv4/conf/*/forwarding", REDIRECTS),
    "ipv6": ("ipv6/conf/*/forwarding", "ipv6/conf/*/force_forwarding"),
}
# Of routes in /proc/net/ipv6_route: a default route that came by a router advertisement.
_ROUTES = Path("/proc/net/ipv6_route")
_ADVERTISED = 0x00010000 | 0x00040000


def forwarded_families() -> List[str]:
    """Return the families (ipv4, ipv6) that the host forwards packets of."""
    return [family for family in FAMILIES if is_on(_matching(_DECIDING[family]))]


def is_on(values: Values) -> bool:
    """Tell whether packets are forwarded by these settings."""
    return "1" in deciding(values).values()


def all_flag(family: str) -> str:
    """Return the setting that the others follow."""
    return f"{family}/conf/all/forwarding"


def current(family: str) -> Values:
    """Return all that a change of forwarding may change."""
    return _matching(_CHANGING[family])


def wanted(family: str, on: bool) -> Values:
    """Return what the settings have to be; nothing where the kernel lacks the family, and so forwards none of it.

    An interface for which somebody has turned forwarding off stays as it is on a host that forwards.
    """
    if on:
        return dict.fromkeys(read([all_flag(family)]), "1")
    flags = dict.fromkeys(_matching(_DECIDING[family]), "0")
    return {**flags, **read([REDIRECTS])} if family == "ipv4" else flags


def deciding(values: Values) -> Values:
    """Return those of these settings by which packets pass or not."""
    return {path: value for path, value in values.items() if any(fnmatchcase(path, p) for p in _PATTERNS)}


def differing(values: Values) -> Values:
    """Return the settings that have another value now; those of interfaces that are gone are left out."""
    now = read(values)
    return {path: value for path, value in values.items() if now.get(path, value) != value}


def read(paths: Iterable[str]) -> Values:
    """Return these settings, but for those that are not there."""
    found: Values = {}
    for path in paths:
        # A kernel without this family, or an interface that has just gone.
        with suppress(OSError):
            found[path] = (NET / path).read_text(encoding="ascii").strip()
    return found


def _matching(patterns: Iterable[str]) -> Values:
    return read(str(path.relative_to(NET)) for pattern in patterns for path in sorted(NET.glob(pattern)))


def write(values: Values) -> None:
    """Change what differs, the settings first that change others; raises ``KernelError``."""
    for path in _in_order(values):
        if not differing({path: values[path]}):
            continue
        try:
            (NET / path).write_text(values[path], encoding="ascii")
        except FileNotFoundError:
            continue
        except OSError as error:
            what = f"it cannot be set to {values[path]} ({error.strerror})"
            raise KernelError(str(NET / path), what, "see who keeps it from being written") from error


def script(values: Values) -> str:
    """Return the same for a shell, which does not stop at anything."""
    lines = [f"put {quote(str(NET / path))} {quote(values[path])}\n" for path in _in_order(values)]
    return 'put() { [ ! -e "$1" ] || [ "$(cat "$1")" = "$2" ] || echo "$2" >"$1"; }\n' + "".join(lines)


def _in_order(values: Values) -> List[str]:
    return sorted(values, key=lambda path: ("/conf/all/" not in path, not path.endswith("forwarding"), path))


def losing_advertised() -> List[str]:
    """Return the interfaces whose default route the kernel would forget, were IPv6 forwarding turned on now.

    A host that forwards takes advertisements of routers only where ``accept_ra`` is 2.
    """
    interfaces = set()
    for line in _ROUTES.read_text(encoding="ascii").splitlines() if _ROUTES.exists() else ():
        words = line.split()
        accepts = read([f"ipv6/conf/{words[9]}/accept_ra"])
        if int(words[8], 16) & _ADVERTISED == _ADVERTISED and "2" not in accepts.values():
            interfaces.add(words[9])
    return sorted(interfaces)
