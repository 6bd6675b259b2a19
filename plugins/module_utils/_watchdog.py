# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes that stand only if they are confirmed: a watchdog on the host takes them back. Private to this collection.

The watchdog depends on nothing that a change could cut off: neither on the login nor on Ansible's processes. It and
the confirmation each begin by renaming the same directory, which the kernel lets one of them do.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Iterator, List

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._run import ENVIRONMENT, Run

# Not on disk: what is here is about the rules of this boot.
STATE = Path("/run/palisade-egress")

_SCRIPT = """\
# Takes back what nobody has confirmed, unless a confirmation came first. $1 is the directory of the change.
mv "$1" "$1.taken-back" 2>/dev/null || exit 0
{environment} {command} -f "$1.taken-back/restore"
status=$?
logger -t palisade-egress "nobody confirmed the new rules in time: took them back (status $status)" 2>/dev/null
rm -rf "$1.taken-back"
rmdir "${{1%/*}}" 2>/dev/null
exit $status
"""


class NotPendingError(KernelError):
    """The change is not there to be confirmed: the watchdog was faster, or the host has booted since."""


@contextmanager
def only_one() -> Iterator[None]:
    """Keep other runs on this host out meanwhile; raises ``KernelError`` where one is under way."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            # A name without a file: the kernel keeps one a network namespace, as it does rules, and frees it by itself.
            lock.bind("\0palisade-egress")
        except OSError as error:
            mend = "run it again once that one has ended"
            raise KernelError("egress_rule", "another run is changing this host's rules now", mend) from error
        yield


def check_none_pending() -> None:
    """Raise ``KernelError`` where a change waits to be confirmed: two of them could not both be taken back."""
    for path in STATE.glob(_directory("*").name):
        if path.suffix == "":
            mend = "run it again when that change has been confirmed or taken back"
            raise KernelError("egress_rule", f"a change waits to be confirmed ({path})", mend)


def check_pending(token: str) -> None:
    """Raise ``NotPendingError`` unless this change waits to be confirmed."""
    if not _directory(token).is_dir():
        raise _not_pending()


def arm(run: Run, token: str, command: str, restore: str, timeout: int) -> None:
    """Have ``command -f`` restore this text in ``timeout`` seconds; raises ``KernelError`` where that cannot be."""
    directory = _directory(token)
    try:
        directory.mkdir(mode=0o700, parents=True)
        (directory / "restore").write_text(restore, encoding="utf-8")
        environment = " ".join(f"{name}={quote(value)}" for name, value in ENVIRONMENT.items())
        script = _SCRIPT.format(environment=environment, command=quote(command))
        (directory / "script").write_text(script, encoding="utf-8")
        _start(run, token, ["/bin/sh", str(directory / "script"), str(directory)], timeout)
    except OSError as error:
        what = f"no watchdog can be set up: {error}"
        raise KernelError("confirm", what, "make room there, or set confirm: {timeout: 0} to do without") from error


def disarm(run: Run, token: str) -> None:
    """Keep the change; raises ``NotPendingError`` if it has been taken back."""
    directory = _directory(token)
    kept = directory.with_suffix(".kept")
    try:
        directory.rename(kept)
    except FileNotFoundError:
        raise _not_pending() from None
    _remove(run, token, kept)


def call_off(run: Run, token: str) -> None:
    """Forget a change that was not made, whether or not the watchdog was set up for it."""
    _remove(run, token, _directory(token))


def _not_pending() -> NotPendingError:
    mend = "see what took so long, or allow more time by confirm: {timeout: 60}"
    return NotPendingError("confirm", "the host took the change back before it was confirmed", mend)


def _directory(token: str) -> Path:
    network = os.stat("/proc/self/ns/net").st_ino
    return STATE / f"pending-{network}-{token}"


def _start(run: Run, token: str, command: List[str], timeout: int) -> None:
    if not _systemd_is_here():
        _detach(["/bin/sh", "-c", f"sleep {timeout}; exec {' '.join(quote(word) for word in command)}"])
        return
    unit = f"--unit={_unit(token)}"
    # Without the accuracy, systemd takes up to a minute more.
    timer = [f"--on-active={timeout}s", "--timer-property=AccuracySec=100ms"]
    result = run(["systemd-run", "--quiet", "--collect", unit, *timer, *command], "")
    if result.code != 0:
        what = f"no watchdog can be set up: {result.error.strip()}"
        raise KernelError("systemd-run", what, "set confirm: {timeout: 0} to do without")


def _remove(run: Run, token: str, directory: Path) -> None:
    """Leave no file, and no timer that would find nothing to do; without systemd, the process ends by itself."""
    shutil.rmtree(directory, ignore_errors=True)
    if STATE.is_dir() and not any(STATE.iterdir()):
        STATE.rmdir()
    if _systemd_is_here():
        run(["systemctl", "stop", f"{_unit(token)}.timer"], "")


def _unit(token: str) -> str:
    return f"palisade-egress-{token}"


def _systemd_is_here() -> bool:
    """Tell whether systemd runs this host, in the network that we are in ourselves."""
    namespaces = (Path(f"/proc/{process}/ns/net") for process in ("1", "self"))
    return Path("/run/systemd/system").is_dir() and len({os.readlink(path) for path in namespaces}) == 1


def _detach(command: List[str]) -> None:
    """Start a process that outlives the login."""
    subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
