# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What makes systemd load the saved rules: at boot, when flushed, when changed. Private to this collection."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, Mapping

from ansible_collections.palisade.egress.plugins.module_utils import _persistence
from ansible_collections.palisade.egress.plugins.module_utils._console import INTERVAL, PROGRAM, SYSCTLS, program_text
from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._run import Run
from ansible_collections.palisade.egress.plugins.module_utils._watchdog import STATE, network

UNITS = Path("/etc/systemd/system")
SERVICE, TIMER, CHECK = "palisade-egress.service", "palisade-egress-check.timer", "palisade-egress-check.service"
DROP_IN = UNITS / "nftables.service.d" / "palisade-egress.conf"
ENABLED = (UNITS / "sysinit.target.wants" / SERVICE, UNITS / "timers.target.wants" / TIMER)

_NOTE = "# Written by the Ansible module palisade.egress.egress_rule, which restores it."

_SERVICE_TEXT = f"""\
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
ExecStart={PROGRAM} load
ExecReload={PROGRAM} load

[Install]
WantedBy=sysinit.target
"""

_DROP_IN_TEXT = f"""\
{_NOTE}
# nftables.service flushes all tables, those of others too, when it starts, reloads and stops.
[Service]
ExecStartPost=-{PROGRAM} load
ExecReload=-{PROGRAM} load
ExecStopPost=-{PROGRAM} load
"""

_CHECK_TEXT = f"""\
{_NOTE}
[Unit]
Description=Look whether the rules of palisade.egress are as they were loaded
RequiresMountsFor={_persistence.DIRECTORY}

[Service]
Type=oneshot
ExecStart={PROGRAM} check
# That it was started is not worth a line each time.
LogLevelMax=notice
"""

_TIMER_TEXT = f"""\
{_NOTE}
[Unit]
Description=Mend the rules of palisade.egress where something has changed them

[Timer]
OnActiveSec={INTERVAL}
OnUnitInactiveSec={INTERVAL}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def outdated(boot_failure: str, forwarding: Mapping[str, bool]) -> List[Path]:
    """Return the files that are not as they have to be.

    ``boot_failure`` is ``closed`` or ``open``, ``forwarding`` says for families whether the host forwards them.
    """
    changed = [path for path, text in _files(boot_failure, forwarding).items() if _text_of(path) != text]
    return [*changed, *(path for path in ENABLED if not path.is_symlink()), *(p for p in [_unfinished()] if p.exists())]


def begin() -> None:
    """Note that what is about to be saved, and what systemd is about to be told, has not come to its end yet."""
    # Whoever has no room for the note does without: it serves only where we are killed.
    with suppress(OSError):
        _unfinished().touch()


def finish() -> None:
    """Take the note of ``begin`` away."""
    with suppress(OSError):
        _unfinished().unlink()


def install(run: Run, boot_failure: str, forwarding: Mapping[str, bool]) -> None:
    """Have systemd load the saved rules from now on; raises ``KernelError`` where it refuses."""
    try:
        for path, text in _files(boot_failure, forwarding).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, text, 0o755 if path == PROGRAM else 0o644)
    except OSError as error:
        what = f"the boot unit cannot be written ({error})"
        mend = "make room there and run the play again: the rules hold, but the next boot may not load them"
        raise KernelError("persist", what, mend) from error
    _systemctl(run, "daemon-reload")
    _systemctl(run, "enable", "--quiet", SERVICE, TIMER)
    _systemctl(run, "restart", TIMER)


def check_systemd() -> None:
    """Raise ``KernelError`` where systemd does not run, before anything depends on it."""
    if not Path("/run/systemd/system").is_dir():
        mend = "set persist: false, and see to it that something loads the rules at boot"
        raise KernelError("persist", "systemd does not run this host", mend)


def remember(run: Run) -> None:
    """Have what the kernel holds now count as what it has to hold; raises ``KernelError``."""
    result = run([str(PROGRAM), "remember"], "")
    if result.code != 0:
        what = f"what the kernel holds cannot be noted: {result.trouble}"
        mend = "make room in /run: the rules hold and the next boot loads them, but the timer loads them once more"
        raise KernelError("persist", what, mend)


def remove(run: Run) -> None:
    """Leave no unit of ours."""
    if not present():
        return
    there = [unit for unit in (TIMER, SERVICE) if (UNITS / unit).exists()]
    if there:
        _systemctl(run, "disable", "--quiet", *there)
    if TIMER in there:
        _systemctl(run, "stop", TIMER)
    try:
        files = tuple(_files("closed", {}))
        for path in (*(_new(path) for path in files), *files):
            if path.exists():
                path.unlink()
        if DROP_IN.parent.is_dir() and not any(DROP_IN.parent.iterdir()):
            DROP_IN.parent.rmdir()
    except OSError as error:
        raise KernelError("persist", f"the boot unit cannot be removed ({error})", "remove it by hand") from error
    _systemctl(run, "daemon-reload")


def present() -> bool:
    """Tell whether anything of ours is there."""
    return any(path.exists() for path in _files("closed", {}))


def _files(boot_failure: str, forwarding: Mapping[str, bool]) -> Dict[Path, str]:
    return {
        SYSCTLS: f"{_NOTE}\n{_sysctl_lines(forwarding)}",
        PROGRAM: program_text(boot_failure),
        UNITS / SERVICE: _SERVICE_TEXT,
        UNITS / CHECK: _CHECK_TEXT,
        UNITS / TIMER: _TIMER_TEXT,
        DROP_IN: _DROP_IN_TEXT,
    }


def _sysctl_lines(forwarding: Mapping[str, bool]) -> str:
    """Return what systemd-sysctl sets at boot.

    A setting has several names, and whatever else names one of them comes before.
    """
    lines = []
    for family, on in forwarding.items():
        names = ["conf.all.forwarding"] if on else ["conf.all.forwarding", "conf.default.forwarding"]
        names = ["ip_forward", *names] if family == "ipv4" else names
        lines += [f"net.{family}.{name} = {on:d}\n" for name in names]
    return "".join(lines)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole."""
    new = _new(path)
    with new.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        # Else the name may be on the disk, after a power cut, and nothing in it.
        os.fsync(file.fileno())
    os.replace(new, path)


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _unfinished() -> Path:
    return STATE / f"saving-{network()}"


def _systemctl(run: Run, *arguments: str) -> None:
    result = run(["systemctl", *arguments], "")
    if result.code != 0:
        mend = "see systemctl status palisade-egress: the rules hold as asked for, but the next boot may do otherwise"
        raise KernelError(f"systemctl {arguments[0]}", f"it failed: {result.trouble}", mend)
