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

NOBODY_WAITS = (
    "confirm: the task that makes a change has to confirm it, and with poll: 0 it would not wait. Give a poll of some "
    "seconds, or set confirm: {timeout: 0}."
)

Plain = dict[str, Any]


class ActionModule(ActionBase):
    """Runs the module, logs in anew, and runs it again to confirm."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: Plain | None = None) -> Plain:
        result = super().run(tmp, task_vars)
        del tmp
        confirm = self._task.args.get("confirm", {})
        timeout = confirm.get("timeout", DEFAULT_TIMEOUT) if isinstance(confirm, dict) else DEFAULT_TIMEOUT
        self._task.args["login"] = self._login()
        if self._task.check_mode or not isinstance(timeout, int) or timeout <= 0:
            return {**result, **self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)}
        if self._task.async_val and self._task.poll == 0:
            return {**result, **_failure(NOBODY_WAITS)}
        # To confirm takes us: there is no job in the background.
        self._task.async_val = 0
        return {**result, **self._change(task_vars, {"timeout": timeout, "token": uuid.uuid4().hex[:12]})}

    def _login(self) -> str:
        """Return the addresses and ports of the login as the host sees them; sudo would take that away."""
        said = self._low_level_execute_command('echo "$SSH_CONNECTION"', sudoable=False)
        return str(said["stdout"]).strip()

    def _change(self, task_vars: Plain | None, confirm: Plain) -> Plain:
        deadline = time.monotonic() + confirm["timeout"]
        lost = None
        try:
            applied = self._run_module(task_vars, {**confirm, "stage": "apply"})
            if applied.get("failed") or not applied.get("pending"):
                return applied
        except AnsibleConnectionFailure as error:
            # Whether the change was made, the host knows.
            lost = error
        return self._confirm(task_vars, {**confirm, "stage": "confirm"}, deadline, lost)

    def _run_module(self, task_vars: Plain | None, confirm: Plain) -> Plain:
        arguments = {**self._task.args, "confirm": {**self._task.args.get("confirm", {}), **confirm}}
        return self._execute_module(module_args=arguments, task_vars=task_vars)

    def _confirm(
        self, task_vars: Plain | None, confirm: Plain, deadline: float, lost: AnsibleConnectionFailure | None
    ) -> Plain:
        """Log in anew and confirm, as often as there is time for; what the host says then is the result."""
        said = str(lost or "the answer to the change itself came too late")
        while time.monotonic() < deadline:
            try:
                self._connection.reset()
                answer = self._run_module(task_vars, confirm)
            except AnsibleConnectionFailure as error:
                said = str(error)
            else:
                if lost and answer.get("cause") == "not pending":
                    # It was lost before anything was changed.
                    raise lost
                if not lost or answer.get("cause") != "busy":
                    return answer
            time.sleep(1)
        if lost:
            raise AnsibleConnectionFailure(
                f"{lost} (if the rules have changed, the host takes that back by itself within {confirm['timeout']} "
                "seconds)"
            )
        state, obstacle = self._state_after(task_vars, deadline), " ".join(said.split())
        return _failure(
            f"confirm: no new login worked within {confirm['timeout']} seconds of the change, so the host takes it "
            f"back by itself ({state}). What stood in the way: {obstacle}"
        )

    def _state_after(self, task_vars: Plain | None, deadline: float) -> str:
        while time.monotonic() < deadline + GRACE:
            time.sleep(1)
            try:
                self._connection.reset()
                self._execute_module(module_name="ansible.builtin.ping", module_args={}, task_vars=task_vars)
                return "it answers again"
            except AnsibleConnectionFailure:
                continue
        return "it does not answer yet"


def _failure(message: str) -> Plain:
    return {"failed": True, "changed": False, "msg": message}
