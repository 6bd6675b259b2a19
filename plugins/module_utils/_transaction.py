# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making the kernel match: read, plan, load, read back. Private to this collection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import (
    KernelError,
    MissingProgramError,
    NotRestoredError,
)
from ansible_collections.palisade.egress.plugins.module_utils._model import Chain, Rule, Ruleset, TcpFlags
from ansible_collections.palisade.egress.plugins.module_utils._plan import Change, Observed, make_plan

MIDSTREAM_RULE = "palisade/midstream"
MIDSTREAM_CHAINS = ("input", "forward", "output")


@dataclass(frozen=True)
class Outcome:
    """What was, what is wanted (with the allowance for mid-stream TCP where it was made), and the way between.

    ``assumed_empty`` says that the kernel could not be asked, as the firewall program is yet to be installed.
    """

    observed: Observed
    wanted: Optional[Ruleset]
    plan: Tuple[Change, ...]
    midstream: bool = False
    assumed_empty: bool = False


@dataclass(frozen=True)
class Around:
    """What else happens in a change; whatever these raise stops it.

    ``guard`` is called with the rules of a change, that of a check, too. ``before_load`` is called, once all else is
    ready, with whether this is the first apply and with what the kernel held, as the backend's snapshot; where
    something ``besides`` the rules changes, also if they stay as they are.
    """

    guard: Callable[[Ruleset], None] = lambda _wanted: None
    before_load: Callable[[bool, Any], None] = lambda _first_apply, _snapshot: None
    besides: bool = False


def converge(
    backend: Any, wanted: Optional[Ruleset], *, check: bool, midstream: bool, around: Around = Around()
) -> Outcome:
    """Make the kernel hold ``wanted`` (None: nothing of ours), or with ``check`` only tell what that would change.

    ``midstream`` lets connections that conntrack has not seen begin go on, where this is the first apply.
    Raises ``UnsupportedError`` before anything is touched, ``KernelError``, after which the kernel is as before, and
    ``NotRestoredError`` where it is not.
    """
    table, assumed_empty = _read(backend, may_be_missing=check)
    observed = backend.observe(table)
    first_apply = wanted is not None and _is_first(observed, wanted)
    if midstream and first_apply and wanted is not None:
        wanted = with_midstream(wanted)
    plan = make_plan(observed, wanted)
    script = backend.make_script(table, wanted) if plan else ()
    if plan and wanted is not None:
        around.guard(wanted)
    if (plan or around.besides) and not check:
        snapshot = backend.snapshot(table)
        around.before_load(first_apply, snapshot)
        if plan:
            _load(backend, snapshot, script, wanted)
    return Outcome(observed, wanted, plan, midstream and first_apply, assumed_empty)


def _is_first(observed: Observed, wanted: Ruleset) -> bool:
    """Tell whether the first of our rules are to come, or the first that have the kernel look at connections."""
    asks_newly = wanted.tracks_connections and not observed.ruleset.tracks_connections
    return asks_newly or not observed.present


def _read(backend: Any, *, may_be_missing: bool) -> Tuple[Any, bool]:
    """Return our table, and whether that it is empty had to be assumed."""
    try:
        return backend.read(), False
    except MissingProgramError:
        if not may_be_missing:
            raise
        return None, True


def with_midstream(ruleset: Ruleset) -> Ruleset:
    """Return the ruleset with mid-stream TCP let through first: what is not SYN and has ACK set.

    A host that has never used conntrack takes the next segment of every live connection for a new flow, the answer
    to whoever applies the rules included. Once those segments have passed, the connections are known.
    """
    return Ruleset(tuple(_chain_with_midstream(chain) for chain in ruleset.chains))


def _chain_with_midstream(chain: Chain) -> Chain:
    if chain.name not in MIDSTREAM_CHAINS:
        return chain
    rule = Rule(
        name=MIDSTREAM_RULE,
        chain=chain.name,
        action="accept",
        protocol="tcp",
        tcp_flags=TcpFlags(mask=("ack", "syn"), set=("ack",)),
        ctstate=("new",),
    )
    return replace(chain, rules=(rule, *chain.rules))


def _load(backend: Any, snapshot: Any, script: Tuple[Any, ...], wanted: Optional[Ruleset]) -> None:
    try:
        backend.load(script)
    except MissingProgramError:
        raise
    except KernelError:
        # One that was killed, or could not tell, may have done it all the same.
        if _differs(backend, snapshot):
            _restore(backend, snapshot)
        raise
    try:
        left = make_plan(backend.observe(backend.read()), wanted)
    except KernelError:
        _restore(backend, snapshot)
        raise
    if left:
        _restore(backend, snapshot)
        first = left[0]
        chain = f"of chain {first.chain}" if first.chain and first.what != "chain" else first.chain
        about = " ".join(part for part in (first.what, first.name, chain) if part)
        what = f"{about} still has to be {first.change} after the change, which was taken back"
        raise KernelError("the kernel", what, "see that nobody else changes this table, then report it as a bug")


def _differs(backend: Any, snapshot: Any) -> bool:
    try:
        return bool(backend.observe(backend.read()) != backend.observe(snapshot.table))
    except KernelError:
        return True


def _restore(backend: Any, snapshot: Any) -> None:
    try:
        backend.restore(snapshot)
    except KernelError as error:
        what = f"a change went wrong, and the rules before it do not load again: {error.what}"
        raise NotRestoredError(error.where, what, error.mend) from error
