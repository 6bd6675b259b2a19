# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What makes systemd load the saved rules, at boot and whenever they are flushed. Private to this collection."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Dict, List

from ansible_collections.palisade.egress.plugins.module_utils import _persistence
from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._nft_script import TABLE
from ansible_collections.palisade.egress.plugins.module_utils._run import ENVIRONMENT, Run

UNIT = "palisade-egress.service"
LOADER = Path("/usr/local/lib/palisade-egress/load")
UNIT_FILE = Path("/etc/systemd/system") / UNIT
DROP_IN = Path("/etc/systemd/system/nftables.service.d/palisade-egress.conf")
ENABLED = Path("/etc/systemd/system/sysinit.target.wants") / UNIT

_ENVIRONMENT = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
_NOTE = "# Written by the Ansible module palisade.egress.egress_rule, which restores it."

_UNIT_TEXT = f"""\
{_NOTE}
[Unit]
Description=Egress firewall of palisade.egress
Documentation=man:nft(8)
DefaultDependencies=no
RequiresMountsFor={_persistence.DIRECTORY}
# nftables.service flushes everything when it starts.
After=nftables.service
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={LOADER}
ExecReload={LOADER}

[Install]
WantedBy=sysinit.target
"""

_DROP_IN_TEXT = f"""\
{_NOTE}
# nftables.service flushes all tables, those of others too, when it starts, reloads and stops.
[Service]
ExecStartPost=-{LOADER}
ExecReload=-{LOADER}
ExecStopPost=-{LOADER}
"""

_LOADER_TEXT = f"""\
#!/bin/sh
{_NOTE}
# Loads the saved rules. Where they do not load, the host is left __STATE__.
export {_ENVIRONMENT} PATH=/usr/sbin:/usr/bin:/sbin:/bin
nft -f {_persistence.DIRECTORY}/current && exit
logger -p daemon.err -t palisade-egress "the saved rules do not load: the host is left __STATE__"
__FALLBACK__exit 1
"""

# Nothing leaves but answers to those who come in; what is there already, if anything, is better than this.
_CLOSED_TEXT = f"""\
nft list table {TABLE} >/dev/null 2>&1 && exit 1
nft -f - <<'END'
table {TABLE} {{
    chain output {{
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        ct state established accept
        icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }} accept
    }}
}}
END
"""


def outdated(boot_failure: str) -> List[Path]:
    """Return the files that are not as they have to be; ``boot_failure`` is ``closed`` or ``open``."""
    return [path for path, text in _files(boot_failure).items() if _text_of(path) != text] + [
        path for path in (ENABLED,) if not path.is_symlink()
    ]


def install(run: Run, boot_failure: str) -> None:
    """Have systemd load the saved rules from the next boot on; raises ``KernelError`` where it does not run here."""
    if not Path("/run/systemd/system").is_dir():
        mend = "set persist: false, and see to it that something loads the rules at boot"
        raise KernelError("persist", "systemd does not run this host", mend)
    try:
        for path, text in _files(boot_failure).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, text, 0o755 if path == LOADER else 0o644)
    except OSError as error:
        raise KernelError("persist", f"the boot unit cannot be written ({error})", "make room there") from error
    _systemctl(run, "daemon-reload")
    _systemctl(run, "enable", "--quiet", UNIT)


def remove(run: Run) -> None:
    """Leave no unit of ours."""
    if UNIT_FILE.exists():
        _systemctl(run, "disable", "--quiet", UNIT)
    for path in (UNIT_FILE, DROP_IN, LOADER):
        if path.exists():
            path.unlink()
    for directory in (DROP_IN.parent, LOADER.parent):
        if directory.is_dir() and not any(directory.iterdir()):
            shutil.rmtree(directory)
    _systemctl(run, "daemon-reload")


def present() -> bool:
    """Tell whether anything of ours is there."""
    return any(path.exists() for path in (UNIT_FILE, DROP_IN, LOADER))


def _files(boot_failure: str) -> Dict[Path, str]:
    fallback = _CLOSED_TEXT if boot_failure == "closed" else ""
    loader = _LOADER_TEXT.replace("__STATE__", boot_failure).replace("__FALLBACK__", fallback)
    return {LOADER: loader, UNIT_FILE: _UNIT_TEXT, DROP_IN: _DROP_IN_TEXT}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(mode)
    os.replace(new, path)


def _systemctl(run: Run, *arguments: str) -> None:
    result = run(["systemctl", *arguments], "")
    if result.code != 0:
        what = f"it failed: {result.error.strip()[:200]}"
        raise KernelError(f"systemctl {arguments[0]}", what, "see systemctl status palisade-egress")
