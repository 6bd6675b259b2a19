# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes that stand only if they are confirmed: a watchdog on the host takes them back. Private to this collection.

The watchdog depends on nothing that a change could cut off: neither on the login nor on Ansible's processes. A change
that waits is a directory. Whoever holds the lock may decide about it, by renaming it; what a killed process leaves
half done shows by its name, and is finished by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any, Dict, Iterator, List, TextIO, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._run import ENVIRONMENT, Run

# Not on disk: what is here is about the rules of this boot.
STATE = Path("/run/palisade-egress")
# How long a run waits for another one, in seconds: as long as the timer that mends drift may take.
PATIENCE = 5
# How much later than its time, in seconds, a watchdog counts as dead.
GRACE = 15
# What becomes of a change by its name: it is being set up, is taken back, or stands.
ARMING, TAKEN_BACK, KEPT = ".arming", ".taken-back", ".kept"

# $1 is the directory of the change, $2 how often to try, $3 the lock, or nothing where the caller holds it. Whoever
# holds it for seconds at the very end hangs while it confirms: it must not go on once the old rules are back. Its
# number may be that of another process by now, which does not have the lock open.
_SCRIPT = """\
waits() {{
    [ -d "$1" ] || [ -d "$1.taken-back" ]
}}
waits "$1" || exit 0
if [ -n "$3" ]; then
    exec 9>>"$3"
    if ! flock -w 5 9 && waits "$1"; then
        holder=$(cat "$3")
        for file in /proc/"$holder"/fd/*; do
            if [ "$file" -ef "$3" ]; then
                # Without systemd, we are its child ourselves.
                for process in $holder $(cat "/proc/$holder/task/$holder/children"); do
                    [ "$process" = $$ ] || kill -9 "$process" 2>/dev/null
                done
                break
            fi
        done
        flock -w 5 9
    fi
fi
mv "$1" "$1.taken-back" 2>/dev/null || [ -d "$1.taken-back" ] || exit 0
sh "$1.taken-back/before"
tries=0
until {environment} {command} -f "$1.taken-back/restore"; do
    tries=$((tries + 1))
    if [ "$tries" -ge "$2" ]; then
        logger -p daemon.err -t palisade-egress "the rules before the change do not load: its rules stay" 2>/dev/null
        exit 1
    fi
    sleep 1
done
sh "$1.taken-back/after"
logger -p daemon.warning -t palisade-egress "nobody confirmed the new rules in time: took them back" 2>/dev/null
rm -rf "$1.taken-back"
"""


class NotPendingError(KernelError):
    """The change is not there to be confirmed: the watchdog was faster, or the host has booted since."""

    cause = "not pending"


class BusyError(KernelError):
    """Another run is changing this host's rules."""

    cause = "busy"


@contextmanager
def only_one() -> Iterator[None]:
    """Keep other runs on this host out meanwhile; raises ``BusyError`` where one does not end soon."""
    with _locked():
        yield


def lock_path() -> Path:
    """Return the lock of this host's rules; each network namespace has rules of its own."""
    return STATE / f"lock-{network()}"


def network() -> int:
    """Return the number of the network namespace that we are in."""
    return os.stat("/proc/self/ns/net").st_ino


def uptime() -> float:
    """Return seconds since the host booted, which nobody sets back."""
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])


def settle(run: Run) -> None:
    """Finish what runs that were killed have left; raises ``KernelError`` where a change waits to be confirmed.

    Two changes could not both be taken back. One whose watchdog ought to have taken it back long ago is now.
    """
    for directory in STATE.glob(_directory("*").name):
        token = directory.name[len(_directory("").name) :].partition(".")[0]
        if directory.suffix in (ARMING, KEPT):
            call_off(run, token)
        elif directory.suffix == TAKEN_BACK or _seconds_left(directory) < -GRACE:
            _settle_taken_back(run, token)
        else:
            mend = "run it again when that change has been confirmed or taken back"
            raise KernelError("egress_rule", f"a change waits to be confirmed ({directory})", mend)


def _settle_taken_back(run: Run, token: str) -> None:
    try:
        take_back(run, token)
    except KernelError:
        # What was before does not load, and never will: this run is about to say what the rules are.
        shutil.rmtree(_directory(token).with_suffix(TAKEN_BACK), ignore_errors=True)


def leave_nothing() -> None:
    """Remove all that is about the rules of this boot, the lock too, which is held."""
    try:
        for pattern in (f"*-{network()}", f"*-{network()}.new"):
            for path in STATE.glob(pattern):
                path.unlink()
        if not any(STATE.iterdir()):
            STATE.rmdir()
    except OSError as error:
        raise KernelError(str(STATE), f"it cannot be removed ({error})", "remove it by hand") from error


def check_pending(token: str) -> None:
    """Raise ``NotPendingError`` unless this change waits to be confirmed."""
    if not _directory(token).is_dir():
        raise _not_pending()


def arm(run: Run, token: str, command: str, restore: str, around: Tuple[str, str], timeout: int) -> None:
    """Have ``command -f`` restore this text in ``timeout`` seconds; raises ``KernelError`` where that cannot be.

    ``around`` are scripts for a shell that are run before that and after it.
    """
    directory = _directory(token)
    arming = directory.with_suffix(ARMING)
    try:
        arming.mkdir(mode=0o700, parents=True)
        (arming / "restore").write_text(restore, encoding="utf-8")
        for name, text in zip(("before", "after"), around):
            (arming / name).write_text(text, encoding="utf-8")
        (arming / "deadline").write_text(str(uptime() + timeout), encoding="ascii")
        environment = " ".join(f"{name}={quote(value)}" for name, value in ENVIRONMENT.items())
        script = _SCRIPT.format(environment=environment, command=quote(command))
        (arming / "script").write_text(script, encoding="utf-8")
        _start(run, token, _command(directory), timeout)
        # Only now does the change wait: without a watchdog nobody would end that.
        arming.rename(directory)
    except OSError as error:
        call_off(run, token)
        what = f"no watchdog can be set up: {error}"
        raise KernelError("confirm", what, "make room there, or set confirm: {timeout: 0} to do without") from error


def note_result(token: str, result: Dict[str, Any]) -> None:
    """Keep what the change is, for the confirmation to tell, should the answer to the change itself get lost."""
    try:
        (_directory(token) / "result").write_text(json.dumps(result), encoding="utf-8")
    except OSError as error:
        what = f"the change cannot be noted ({error}), and was taken back"
        raise KernelError("confirm", what, "make room in /run") from error


def noted_result(token: str) -> Dict[str, Any]:
    """Return what ``note_result`` kept."""
    try:
        noted: Dict[str, Any] = json.loads((_directory(token) / "result").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # The run that made the change was killed before it could tell.
        raise _not_pending() from None
    return noted


def disarm(token: str) -> None:
    """Let the change stand; raises ``NotPendingError`` if it has been taken back, or ``KernelError``.

    ``call_off`` removes the rest.
    """
    try:
        _directory(token).rename(_directory(token).with_suffix(KEPT))
    except FileNotFoundError:
        raise _not_pending() from None
    except OSError as error:
        what = f"the change cannot be made to stand ({error}), and was taken back"
        raise KernelError("confirm", what, "make room in /run, and run it again") from error


def call_off(run: Run, token: str) -> None:
    """Leave no file, and no timer that would find nothing to do; without systemd, the process ends by itself."""
    directory = _directory(token)
    with suppress(OSError):
        # What is half removed must not look like a change that waits.
        directory.rename(directory.with_suffix(KEPT))
    for path in (directory, *(directory.with_suffix(suffix) for suffix in (ARMING, KEPT))):
        shutil.rmtree(path, ignore_errors=True)
    if _systemd_is_here():
        run(["systemctl", "stop", f"{_unit(token)}.timer"], "")


def take_back(run: Run, token: str) -> None:
    """Do the watchdog's work at once; raises ``KernelError`` where the rules before do not load."""
    directory = _directory(token)
    script = (directory if directory.is_dir() else directory.with_suffix(TAKEN_BACK)) / "script"
    result = run(["sh", str(script), str(directory), "1", ""], "")
    if result.code != 0:
        what = f"the rules before the change do not load again: {result.trouble}"
        raise KernelError("confirm", what, f"see {directory}{TAKEN_BACK}/restore, and run it again")
    call_off(run, token)


def _locked() -> TextIO:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = lock_path().open("a", encoding="ascii")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # It counts only if nobody has removed it meanwhile: others would not find it.
                if lock_path().exists() and lock_path().stat().st_ino == os.fstat(lock.fileno()).st_ino:
                    # Whom the watchdog has to end, should we hang.
                    os.ftruncate(lock.fileno(), 0)
                    os.write(lock.fileno(), str(os.getpid()).encode())
                    return lock
            except BlockingIOError:
                pass
            lock.close()
        except FileNotFoundError:
            # Whoever had the lock has just left nothing, and the directory went with it.
            continue
        except OSError as error:
            raise KernelError("egress_rule", f"no lock can be taken ({error})", "make room in /run") from error
        time.sleep(0.05)
    what, mend = "another run is changing this host's rules now", "run it again once that one has ended"
    raise BusyError("egress_rule", what, mend)


def _not_pending() -> NotPendingError:
    mend = "see what took so long, or allow more time by confirm: {timeout: 60}"
    return NotPendingError("confirm", "the host took the change back before it was confirmed", mend)


def _directory(token: str) -> Path:
    return STATE / f"pending-{network()}-{token}"


def _command(directory: Path) -> List[str]:
    # Whoever was about to take the change back, and died, has renamed the directory, and the script with it.
    script = f"exec /bin/sh {quote(str(directory))}*/script {quote(str(directory))} 30 {quote(str(lock_path()))}"
    return ["/bin/sh", "-c", script]


def _seconds_left(directory: Path) -> float:
    return float((directory / "deadline").read_text(encoding="ascii")) - uptime()


def _start(run: Run, token: str, command: List[str], timeout: int) -> None:
    if not _systemd_is_here():
        _detach(["/bin/sh", "-c", f"sleep {timeout}; exec {' '.join(quote(word) for word in command)}"])
        return
    unit = f"--unit={_unit(token)}"
    # By default a timer may be a minute late.
    when = ("--on-active", str(timeout), "--timer-property=AccuracySec=100ms")
    result = run(["systemd-run", "--quiet", "--collect", unit, *when, *command], "")
    if result.code != 0:
        raise OSError(f"systemd-run: {result.trouble}")


def _unit(token: str) -> str:
    return f"palisade-egress-{token}"


def _systemd_is_here() -> bool:
    """Tell whether systemd runs this host, in the network that we are in ourselves."""
    try:
        networks = {os.readlink(f"/proc/{process}/ns/net") for process in ("1", "self")}
    except OSError:
        return False
    return Path("/run/systemd/system").is_dir() and len(networks) == 1


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
