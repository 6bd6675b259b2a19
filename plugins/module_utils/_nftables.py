# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables backend: the commands that read and load our table. Private to this collection.

What the objects of the table are is pure and stands in ``_nft_render``, ``_nft_parse`` and ``_nft_script``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError, MissingProgramError
from ansible_collections.palisade.egress.plugins.module_utils._model import Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._nft_compat import add_limits, lacks_limits, table_flags
from ansible_collections.palisade.egress.plugins.module_utils._nft_parse import Table, parse_table
from ansible_collections.palisade.egress.plugins.module_utils._nft_render import chain_name
from ansible_collections.palisade.egress.plugins.module_utils._nft_script import TABLE, Command, make_script
from ansible_collections.palisade.egress.plugins.module_utils._plan import Observed
from ansible_collections.palisade.egress.plugins.module_utils._run import Result, Run

# nft knows no "delete if there": a table that is added again is the same one.
_CLEAR = f"add table {TABLE}\ndelete table {TABLE}\n"
_LINE = re.compile(r"(?:/dev/stdin|-):(\d+):[^ ]* (?:Error: )?(.*)")


@dataclass(frozen=True)
class Snapshot:
    """Our table as it was read, and its text, from which the kernel takes it back exactly."""

    table: Optional[Table]
    text: str = ""

    @property
    def script(self) -> str:
        """What ``nft -f`` restores it from, whatever is there by then."""
        return f"{_CLEAR}{self.text}"


class Nftables:
    """The kernel's nf_tables, by the program ``nft``."""

    name = "nftables"
    program = "nft"

    def __init__(self, run: Run) -> None:
        self._run = run

    def read(self) -> Optional[Table]:
        """Return our table, or None if there is none; raises ``KernelError``."""
        # Protocols as numbers: their names would depend on the /etc/protocols of the host.
        result = self._run(["nft", "--json", "--numeric-protocol", "list", "table", *TABLE.split()], "")
        if result.code != 0:
            if result.error.startswith("Error: No such file or directory"):
                return None
            raise _refusal(result, "nft list table")
        try:
            return self._parse(json.loads(result.output))
        except (ValueError, LookupError) as error:
            flags = table_flags(self._text())
            if flags:
                return Table(flags=flags, opaque=True)
            mend = "check that this nft is of version 1.0.2 or later"
            raise KernelError("nft -j list table", f"its answer cannot be read ({error!r})", mend) from error

    def _parse(self, listing: Mapping[str, Any]) -> Table:
        if lacks_limits(listing):
            add_limits(listing, self._text("--handle"))
        return parse_table(listing)

    def observe(self, table: Optional[Table]) -> Observed:
        """Return what of ours is in the kernel, for the plan."""
        if table is None:
            return Observed(present=False)
        strays = [f"{kind} {name}" for kind, name in table.strays]
        strays += [f"table flag {flag}" for flag in table.flags]
        for chain in table.chains.values():
            strays += [f"rule {e.text} in {chain.name}" for e in chain.entries if e.rule is None]
        known = table.ruleset()
        ours = {chain_name(chain.name) for chain in known.chains}
        strays += [f"chain {name}" for name in table.chains if name not in ours]
        return Observed(True, known, tuple(strays))

    def counters(self, table: Optional[Table]) -> List[Dict[str, Any]]:
        """Return how many packets and bytes each rule has matched, default verdicts included."""
        found = []
        for chain in table.chains.values() if table else ():
            for entry in chain.entries:
                if entry.rule and entry.rendered and table:
                    packets, octets = table.counts[entry.rendered.counter]
                    name, where = entry.rule.name, entry.rule.chain
                    found.append({"chain": where, "name": name, "packets": packets, "bytes": octets})
        return found

    def make_script(self, table: Optional[Table], wanted: Optional[Ruleset]) -> Tuple[Command, ...]:
        """Return the commands that change the table into the one wanted; raises ``UnsupportedError``."""
        return make_script(table, wanted)

    def saved_form(self, wanted: Ruleset) -> str:
        """Return what ``nft -f`` makes these rules of, whatever is there by then."""
        commands = "".join(f"{command.text}\n" for command in make_script(None, wanted))
        return f"{_CLEAR}{commands}"

    def load(self, script: Tuple[Command, ...]) -> None:
        """Run the commands, all or none of them; raises ``KernelError``."""
        result = self._run(["nft", "-f", "-"], "".join(f"{command.text}\n" for command in script))
        if result.code != 0:
            raise _refusal(result, "nft -f", script)

    def snapshot(self, table: Optional[Table]) -> Snapshot:
        """Return what ``restore`` needs to bring this table back; raises ``KernelError``."""
        if table is None:
            return Snapshot(None)
        return Snapshot(table, self._text())

    def _text(self, *options: str) -> str:
        result = self._run(["nft", *options, "list", "table", *TABLE.split()], "")
        if result.code != 0:
            raise _refusal(result, "nft list table")
        return result.output

    def restore(self, snapshot: Snapshot) -> None:
        """Bring the table of a snapshot back, whatever is there now; raises ``KernelError``."""
        result = self._run(["nft", "-f", "-"], snapshot.script)
        if result.code != 0:
            raise _refusal(result, "nft -f")


def _refusal(result: Result, command: str, script: Tuple[Command, ...] = ()) -> KernelError:
    """Return the error that says what a failed nft meant."""
    if result.missing:
        return MissingProgramError(command, "the program nft is not installed", "install the package nftables")
    if "Operation not permitted" in result.error:
        return KernelError(command, "it may not change the kernel's rules", "use become: true, or add CAP_NET_ADMIN")
    if "Protocol not supported" in result.error or "Address family not supported" in result.error:
        return KernelError(command, "this kernel has no nf_tables", "use a kernel with nf_tables")
    found = _LINE.search(result.error)
    number = int(found.group(1)) if found else 0
    if found and 0 < number <= len(script):
        what = f"nft refuses it: {found.group(2)} (in: {script[number - 1].text[:200]})"
        return KernelError(script[number - 1].about, what, "leave the option out that this kernel or nft does not know")
    lines = result.error.strip().splitlines() or [f"it ended with status {result.code}"]
    return KernelError(command, lines[0][:300], "nothing was changed; run it by hand to see more")
