# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Applies rules and keeps them only if a login that begins afterwards works."""

from __future__ import annotations

import time
import uuid
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

DEFAULT_TIMEOUT = 30
# How much longer than the watchdog it may take until the host answers again.
GRACE = 15


class ActionModule(ActionBase):
    """Runs the module, logs in anew, and runs it again to confirm."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        del tmp
        confirm = self._task.args.get("confirm", {})
        timeout = confirm.get("timeout", DEFAULT_TIMEOUT) if isinstance(confirm, dict) else DEFAULT_TIMEOUT
        if self._task.check_mode or not isinstance(timeout, int) or timeout <= 0:
            return {**result, **self._run_module(task_vars, {})}
        token = uuid.uuid4().hex[:12]
        deadline = time.monotonic() + timeout
        applied = self._run_module(task_vars, {"timeout": timeout, "token": token, "stage": "apply"})
        if applied.get("failed") or not applied.get("pending"):
            return {**result, **applied}
        confirmed = self._confirm(task_vars, {"timeout": timeout, "token": token, "stage": "confirm"}, deadline)
        return {**result, **(confirmed if confirmed.get("failed") else {**applied, **confirmed, "pending": False})}

    def _run_module(self, task_vars: dict[str, Any] | None, confirm: dict[str, Any]) -> dict[str, Any]:
        arguments = {**self._task.args, "confirm": {**self._task.args.get("confirm", {}), **confirm}}
        return self._execute_module(module_args=arguments, task_vars=task_vars)

    def _confirm(self, task_vars: dict[str, Any] | None, confirm: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Log in anew and confirm, as often as there is time for; what the host says then is the result."""
        said = "the answer to the change itself came too late"
        while time.monotonic() < deadline:
            try:
                return self._log_in_and_run(task_vars, confirm)
            except AnsibleConnectionFailure as error:
                said = " ".join(str(error).split())
                time.sleep(1)
        return {
            "failed": True,
            "changed": False,
            "msg": f"confirm: no new login worked within {confirm['timeout']} seconds of the change, so the host takes "
            f"it back by itself ({self._state_after(task_vars, deadline)}). What stood in the way: {said}",
        }

    def _log_in_and_run(self, task_vars: dict[str, Any] | None, confirm: dict[str, Any]) -> dict[str, Any]:
        """Run the module over a connection that begins now."""
        self._connection.reset()
        said = self._run_module(task_vars, confirm)
        return {key: said[key] for key in ("changed", "failed", "msg", "flows_ended", "midstream") if key in said}

    def _state_after(self, task_vars: dict[str, Any] | None, deadline: float) -> str:
        while time.monotonic() < deadline + GRACE:
            time.sleep(1)
            try:
                self._connection.reset()
                self._execute_module(module_name="ansible.builtin.ping", module_args={}, task_vars=task_vars)
                return "it answers again"
            except AnsibleConnectionFailure:
                continue
        return "it does not answer yet"
