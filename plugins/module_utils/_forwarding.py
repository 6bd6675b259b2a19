# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turning the forwarding of packets on or off, in step with a change of rules. Private to this collection.

It goes on once the rules are in force, and off before they are loaded. What was there before our first change is
noted, and comes back when forwarding is no longer ours to say. What somebody else has changed since is left alone
then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from shlex import quote
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils import _persistence, _sysctls
from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError, RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import FAMILIES
from ansible_collections.palisade.egress.plugins.module_utils._plan import Change
from ansible_collections.palisade.egress.plugins.module_utils._sysctls import Values
from ansible_collections.palisade.egress.plugins.module_utils._watchdog import STATE, network

# By family, whether we have it forwarded (``on``), and the settings before we had a say (``before``).
Notes = Dict[str, Dict[str, Any]]

_SAVED = _persistence.DIRECTORY / "forwarding.json"


def wanted(params: Dict[str, Any]) -> Dict[str, bool]:
    """Return what the module's parameters say, by family; raises ``RuleError``."""
    said = {family: params["forwarding"][family] for family in FAMILIES if params["forwarding"][family] is not None}
    if said and params["state"] == "absent":
        raise RuleError("forwarding", "goes with state: present only", "leave it out, or set the state")
    return said


def ours() -> List[str]:
    """Return the families for which we say whether they are forwarded."""
    return [family for family in FAMILIES if family in _noted()]


class Forwarding:
    """What is to be done, and undone; ``plan`` tells it. Raises where it could not be done."""

    def __init__(self, module: Any) -> None:
        self._wanted = wanted(module.params)
        self._persist: bool = module.params["persist"]
        self._notes = _noted()
        self._before = {family: _sysctls.current(family) for family in FAMILIES}
        targets = {family: self._target(family) for family in FAMILIES}
        self._targets = {family: values for family, values in targets.items() if _sysctls.differing(values)}
        self.plan = tuple(self._changes())
        self._check()

    def _target(self, family: str) -> Values:
        if family in self._wanted:
            return _sysctls.wanted(family, self._wanted[family])
        note = self._notes.get(family)
        if note is None or _sysctls.is_on(self._before[family]) != note["on"]:
            return {}
        before: Values = note["before"]
        flag = {path: value for path, value in before.items() if path == _sysctls.all_flag(family)}
        return before if _sysctls.differing(flag) else _sysctls.deciding(before)

    def _changes(self) -> Iterator[Change]:
        for family, values in self._targets.items():
            before, after = {"on": _sysctls.is_on(self._before[family])}, {"on": _sysctls.is_on(values)}
            yield Change("forwarding", "changed", name=family, before=before, after=after)

    def _check(self) -> None:
        for family, values in self._targets.items():
            for path, value in _sysctls.differing(values).items():
                if not os.access(str(_sysctls.NET / path), os.W_OK):
                    what = f"{_sysctls.NET / path} has to be {value}, and cannot be written"
                    mend = "set it where that can be done (of a container, where it is started), or use become: true"
                    raise KernelError(f"forwarding.{family}", what, mend)
        if self._wanted.get("ipv6") and "ipv6" in self._targets:
            for interface in _sysctls.losing_advertised():
                what = f"the default route by {interface} came with a router advertisement, and would be forgotten"
                mend = f"set net.ipv6.conf.{interface}.accept_ra = 2 for good, or give it a static route"
                raise KernelError("forwarding.ipv6", what, mend)

    @property
    def described(self) -> Tuple[str, str]:
        """What changes, in lines for a diff: before and after."""
        before = [f"forwarding of {change.name}: {_switch(change.before)}\n" for change in self.plan]
        after = [f"forwarding of {change.name}: {_switch(change.after)}\n" for change in self.plan]
        return "".join(before), "".join(after)

    @property
    def restoring(self) -> Tuple[str, str]:
        """Two scripts for a shell that bring back what was: one for before the rules come back, one for after."""
        before = {family: self._before[family] for family in self._targets}
        off = [_sysctls.script(values) for values in before.values() if not _sysctls.is_on(values)]
        on = [_sysctls.script(values) for values in before.values() if _sysctls.is_on(values)]
        forget = [f"rm -f {quote(str(self._file()))}\n"] if before and not self._notes else []
        return "".join(off), "".join(on + forget)

    def begin(self) -> None:
        """Note what is there, and turn off what is to be off."""
        if self._targets:
            new = [family for family in self._wanted if family not in self._notes]
            self._note({**self._notes, **{family: self._noting(family) for family in new}})
        self._turn(on=False)

    def finish(self) -> None:
        """Turn on what is to be on: the rules are in force."""
        self._turn(on=True)

    def undo(self) -> None:
        """Bring back what was there before ``begin``."""
        for family in self._targets:
            _sysctls.write(self._before[family])
        if self._targets and not self._notes:
            _remove(self._file())

    def settle(self) -> None:
        """Have it count from now on, as the change stands."""
        if self._wanted:
            self._note({family: self._noting(family) for family in self._wanted})
        elif self._notes and (self._persist or self._file() == _of_this_boot()):
            _remove(self._file())

    def _turn(self, *, on: bool) -> None:
        for values in self._targets.values():
            if _sysctls.is_on(values) == on:
                _sysctls.write(values)

    def _noting(self, family: str) -> Dict[str, Any]:
        before = self._notes[family]["before"] if family in self._notes else self._before[family]
        return {"on": self._wanted[family], "before": before}

    def _note(self, notes: Notes) -> None:
        if notes == self._notes and self._file().exists():
            return
        path = self._file()
        new = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _persistence.write(new, json.dumps(notes))
            os.replace(str(new), str(path))
        except OSError as error:
            what = f"what was there before cannot be noted ({error})"
            raise KernelError(str(path), what, "make room there, and run it again") from error

    def _file(self) -> Path:
        return _SAVED if self._persist or _SAVED.exists() else _of_this_boot()


def _switch(side: Optional[Dict[str, Any]]) -> str:
    return "on" if side and side["on"] else "off"


def _of_this_boot() -> Path:
    return STATE / f"forwarding-{network()}"


def _noted() -> Notes:
    """Return what is noted, on the disk or, where nothing is saved, for this boot."""
    for path in (_SAVED, _of_this_boot()):
        try:
            notes: Notes = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise KernelError(str(path), f"it cannot be read ({error})", "remove it by hand") from error
        return notes
    return {}


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError(str(path), f"it cannot be removed ({error})", "remove it by hand") from error
