# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints, instead of what Ansible prints, how long each task took and how it ended: a JSON object a line."""

from __future__ import annotations

import json
from time import monotonic
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Measures from the start of a task until Ansible has understood its result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "stopwatch"

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._start = monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._tell(changed=result.result.get("changed", False))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._tell(failed=str(result.result.get("msg", ""))[:500])

    def _tell(self, **end: object) -> None:
        self._display.display(json.dumps({"seconds": monotonic() - self._start, **end}))
