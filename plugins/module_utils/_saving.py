# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saving rules for the next boot, in step with a change: what is to be done, and when. Private to this collection."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Iterator, Optional

from ansible_collections.palisade.egress.plugins.module_utils import _boot, _persistence
from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._forwarding import wanted as forwarded
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._module import backend_of, runner
from ansible_collections.palisade.egress.plugins.module_utils._plan import Change
from ansible_collections.palisade.egress.plugins.module_utils._run import Run


class Saving:
    """What is to be done so that the next boot loads the rules: first what can fail, then what makes it count."""

    def __init__(self, module: Any, wanted: Optional[Ruleset]) -> None:
        self._module = module
        self._persist = module.params["persist"]
        self._forwarding = forwarded(module.params)
        self._text = backend_of(module).saved_form(wanted) if wanted is not None and self._persist else None
        self.plan = tuple(self._changes()) if self._persist else ()
        if self.plan:
            _boot.check_systemd()
        self._is_prepared = False

    def _changes(self) -> Iterator[Change]:
        saved, is_there = _persistence.saved(), _boot.present()
        if self._text is None:
            yield from [Change("boot unit", "removed")] if is_there else []
            yield from [Change("saved rules", "removed")] if saved is not None else []
            return
        if self._text != saved:
            yield Change("saved rules", "changed" if saved else "added")
        if _boot.outdated(self._module.params["boot_failure"], self._forwarding):
            yield Change("boot unit", "changed" if is_there else "added")

    def prepare(self) -> None:
        """Write what is to be saved, as the disk may refuse."""
        if self._text is not None and self._has("saved rules") and not self._is_prepared:
            params = self._module.params
            contract = {"rules": params["rules"], "chains": params["chains"], "forwarding": self._forwarding}
            _persistence.prepare(self._text, contract)
            self._is_prepared = True

    def carry_out(self, *, kernel_changed: bool) -> None:
        """Make it count, as the rules stand."""
        run = runner(self._module)
        if self._persist and self._text is None:
            _boot.remove(run)
            _persistence.forget()
        elif self._persist:
            self.prepare()
            if self.plan or kernel_changed:
                _boot.begin()
                self._save(run)
                _boot.remember(run)
                _boot.finish()
        elif kernel_changed and _boot.present():
            # Until something else changes them, these rules are what there has to be, without saving, too.
            _boot.remember(run)

    def _save(self, run: Run) -> None:
        try:
            if self._has("saved rules"):
                _persistence.commit(self._module.params["generations"])
            if self._has("boot unit"):
                _boot.install(run, self._module.params["boot_failure"], self._forwarding)
        except KernelError:
            # Else the timer would soon find other rules than it knows, and load those that were saved before.
            with suppress(KernelError):
                _boot.remember(run)
            raise

    def _has(self, what: str) -> bool:
        return any(change.what == what for change in self.plan)
