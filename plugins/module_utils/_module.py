# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of this collection share: running programs, and one way to fail. Private to this collection."""

from __future__ import annotations

import gc
from typing import Any, Callable, Dict, List

from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._run import ENVIRONMENT, Result, Run


def run_module(module: Any, act: Callable[[Any], Dict[str, Any]]) -> None:
    """Exit with what ``act`` returns, or fail with the one error that it raises."""
    # What a run makes it needs until its end, which is near: to look for garbage among it takes time only.
    gc.disable()
    try:
        result = act(module)
    except EgressError as error:
        module.fail_json(msg=str(error), **({"cause": error.cause} if error.cause else {}))
    else:
        module.exit_json(**result, invocation={"module_args": _in_short(module.params)})


def _in_short(params: Dict[str, Any]) -> Dict[str, Any]:
    """Return the parameters as results repeat them: of the rules, which can be megabytes, only the number."""
    rules = params.get("rules")
    return {**params, "rules": f"{len(rules)} rules"} if rules else params


def backend_of(module: Any) -> Nftables:
    """Return the backend that the module's parameters ask for."""
    return Nftables(runner(module))


def runner(module: Any) -> Run:
    """Return a ``Run`` that uses the module's ways."""

    def run(command: List[str], data: str) -> Result:
        path = module.get_bin_path(command[0])
        if path is None:
            return Result(127, missing=True)
        words = [path, *command[1:]]
        try:
            code, output, error = module.run_command(
                words, data=data, binary_data=True, environ_update=ENVIRONMENT, handle_exceptions=False
            )
        except OSError as refused:
            # To end here, as it would by default, would leave what is under way as it is.
            return Result(126, error=f"{path} cannot be run ({refused.strerror})")
        return Result(code, output, error)

    return run
