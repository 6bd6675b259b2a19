# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether rules would cut the way by which this host is managed. Pure. Private to this collection.

What counts is the next login, not the connection at hand, which is established and might live on.
"""

from __future__ import annotations

from typing import Iterable, Iterator, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import LockoutError
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, Verdict, either, follow
from ansible_collections.palisade.egress.plugins.module_utils._flows import Flow, doubtful
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._values import address_text

# Connection tracking looks at packets at this priority.
_CONNTRACK = -200


def check_logins(ruleset: Ruleset, logins: Iterable[Flow], now: float) -> None:
    """Raise ``LockoutError`` if no login like one of these could begin under the rules, or none be answered.

    What is not known of a login, as by which interface it comes, may be as the rules want it.
    """
    rules = doubtful(ruleset)
    for login in logins:
        for what, packets in _packets(ruleset, login, now):
            verdicts = follow(rules, packets, either).verdicts
            if all(verdict.action != "accept" for verdict in verdicts):
                raise _lockout(login, what, verdicts[0])


def _packets(ruleset: Ruleset, login: Flow, now: float) -> Iterator[Tuple[str, Tuple[Packet, ...]]]:
    """Yield the first packet of a login, and the answer to it, as the chains on their way see them."""
    before = ruleset.chain("prerouting")
    early = "invalid" if before is not None and (before.priority or 0) <= _CONNTRACK else "new"
    begins = {"tcp_flags": ("syn",), "destination_type": "local", "time": now}
    yield "it", (login.packet("prerouting", ctstate=early, **begins), login.packet("input", **begins))
    answers = {"tcp_flags": ("ack", "syn"), "ctstate": "established", "ct_direction": "reply", "time": now}
    yield "the answer to it", (login.reversed().packet("output", source_type="local", **answers),)


def _lockout(login: Flow, what: str, verdict: Verdict) -> LockoutError:
    source = address_text(login.source, login.family)
    decided = f"the rule {verdict.rule!r}" if verdict.rule else "the default"
    return LockoutError(
        "guard",
        f"nobody could log in as you did from {source} to port {login.destination_port}: {what} would meet a "
        f"{verdict.action} by {decided} of the chain {verdict.chain}",
        "let it pass, or set guard: false if there is another way in",
    )
