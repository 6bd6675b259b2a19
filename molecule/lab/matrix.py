# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what measure.yml measured against expected.yml: print it as a matrix, exit with 1 where they differ.

With --open every cell must pass: so it is before the fence is up, and only then does "blocked" mean anything after it.
With --bypassed hosts have lost their own rules, routers have not: what crosses a router must fare as before.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

LAB = Path(__file__).resolve().parent
FAMILIES = ("ipv4", "ipv6")
WRONG = "✗"
# Who stopped what did not pass.
HOST, BORDER = "h", "b"

# A question is (protocol and port, family); a cell asks as many as its service has ports, times two.
Question = tuple[str, str]

# Source, target, port: the families over which it passed. Source, target: the services that must pass.
Measured = dict[str, dict[str, dict[str, list[str]]]]
Reaches = dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class Cell:
    """What passed from one host to another for one service, and whether it had to."""

    source: str
    target: str
    service: str
    asked: frozenset[Question]
    passed: frozenset[Question]
    expected: bool
    stops: str = HOST

    @property
    def right(self) -> bool:
        """Tell whether all passed that had to, or nothing that had not."""
        return self.passed == (self.asked if self.expected else frozenset())

    @property
    def symbol(self) -> str:
        """Show what passed; a second character marks what policy says otherwise."""
        return what_passed(self.asked, self.passed, self.stops) + ("" if self.right else WRONG)


def what_passed(asked: frozenset[Question], passed: frozenset[Question], stops: str) -> str:
    """Return one character."""
    if passed == asked:
        return "✓"
    if not passed:
        return stops
    for family in FAMILIES:
        if passed == {question for question in asked if question[1] == family}:
            return family[-1]
    return "~"


@dataclass(frozen=True)
class Policy:
    """What expected.yml says: services, who reaches what, who is a router, and who is on which segment."""

    services: dict[str, list[str]]
    reaches: Reaches
    routers: list[str]
    segments: dict[str, list[str]]

    def crosses(self, source: str, target: str) -> bool:
        """Tell whether a router forwards what one host sends to another."""
        return not any(source in hosts and target in hosts for hosts in self.segments.values())

    def stops(self, source: str, target: str, *, bypassed: bool) -> str:
        """Return who has to stop what must not pass; nobody does between hosts of one segment that have no rules."""
        if not bypassed or source in self.routers:
            return HOST
        return BORDER if self.crosses(source, target) else ""


def cells(measured: Measured, policy: Policy, *, everything: bool, bypassed: bool) -> list[Cell]:
    """Return all cells; hosts stand in the order of the policy, after those that are only targets: the internet."""
    targets = {target for answers in measured.values() for target in answers}
    found = []
    for source, granted in policy.reaches.items():
        for target in [*sorted(targets - policy.reaches.keys()), *(name for name in policy.reaches if name != source)]:
            stops = policy.stops(source, target, bypassed=bypassed)
            found += [
                Cell(
                    source,
                    target,
                    service,
                    frozenset((port, family) for port in ports for family in FAMILIES),
                    frozenset((port, family) for port in ports for family in measured[source][target][port]),
                    everything or not stops or service in granted.get(target, []),
                    stops,
                )
                for service, ports in policy.services.items()
            ]
    return found


def unknown_names(measured: Measured, services: dict[str, list[str]], reaches: Reaches) -> list[str]:
    """Return where policy and measurement differ in what they are about: a typing error must not look blocked."""
    names = [f"{source} is in one of them only" for source in sorted(measured.keys() ^ reaches.keys())]
    for source, granted in reaches.items():
        for target, wanted in granted.items():
            if target not in measured.get(source, {}):
                names.append(f"{source} → {target} was not measured")
            names += [f"{source} → {target}: {name} is no service" for name in wanted if name not in services]
    return names


def table(all_cells: list[Cell], services: list[str]) -> str:
    """Return a row for each pair of hosts, a column for each service, and where no router can help."""
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in all_cells:
        rows.setdefault((cell.source, cell.target), []).append(cell)
    lines = [f"{'from':<8} {'to':<8}  " + "  ".join(services)]
    previous = ""
    for (source, target), row in rows.items():
        if source != previous:
            lines.append("")
        shown = "  ".join(f"{cell.symbol:^{len(cell.service)}}" for cell in row)
        note = "" if row[0].stops else "   same segment"
        lines.append(f"{source if source != previous else '':<8} {target:<8}  {shown}{note}".rstrip())
        previous = source
    return "\n".join(lines)


def detail(cell: Cell) -> str:
    """Name a cell's service, and what passed where that was not all or nothing."""
    if cell.passed in (cell.asked, frozenset()):
        return cell.service
    return f"{cell.service} (only {', '.join(f'{port} over {family}' for port, family in sorted(cell.passed))})"


def explanations(wrong: list[Cell]) -> list[str]:
    """Say in words what is wrong, a line for each pair of hosts and kind of fault."""
    lines: dict[str, list[str]] = {}
    for cell in wrong:
        fault = "does not pass, but must" if cell.expected else "passes, but must not"
        lines.setdefault(f"{WRONG} {cell.source} → {cell.target} {fault}", []).append(detail(cell))
    return [f"{line}: {', '.join(details)}" for line, details in lines.items()]


def wrong_level(stopped: dict[str, int], *, bypassed: bool) -> str:
    """Say if it was not who it had to be who stopped packets: the border sees none that hosts stop themselves.

    ``stopped`` tells how many packets each rule of the border stopped.
    """
    counted = [f"{rule}: {packets}" for rule, packets in stopped.items() if packets]
    if counted and not bypassed:
        return f"{WRONG} the border stopped packets that hosts had to stop themselves ({', '.join(counted)})"
    return f"{WRONG} the border stopped nothing" if bypassed and not counted else ""


def arguments() -> argparse.Namespace:
    """Return the command line's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--open", action="store_true", help="expect everything to pass")
    parser.add_argument("--bypassed", action="store_true", help="hosts that are no routers have no rules of their own")
    parser.add_argument("--measured", type=Path, default=LAB.parent.parent / ".cache" / "lab" / "measured.json")
    parser.add_argument("--expected", type=Path, default=LAB / "expected.yml")
    return parser.parse_args()


def main() -> int:
    """Print and judge."""
    options = arguments()
    kept = json.loads(options.measured.read_text(encoding="utf-8"))
    measured = kept["hosts"]
    expected = yaml.safe_load(options.expected.read_text(encoding="utf-8"))
    policy = Policy(expected["services"], expected["reaches"], expected["routers"], expected["segments"])
    unknown = unknown_names(measured, policy.services, policy.reaches)
    if unknown:
        print(f"{options.expected.name} and {options.measured.name} do not fit together:", *unknown, sep="\n  ")
        return 1

    all_cells = cells(measured, policy, everything=options.open, bypassed=options.bypassed)
    wrong = [cell for cell in all_cells if not cell.right]
    if wrong or not options.open:
        legend = f"✓ passed   {HOST} stopped by the host   {BORDER} stopped at the border"
        print(table(all_cells, list(policy.services)), "", sep="\n")
        print(f"{legend}   4, 6 only over IPv4, IPv6   ~ some ports   {WRONG} policy says otherwise", "", sep="\n")
    for line in explanations(wrong):
        print(line)
    unclear = "" if options.open else wrong_level(kept["stopped_at_border"], bypassed=options.bypassed)
    if unclear:
        print(unclear)
    questions = sum(len(cell.asked) for cell in all_cells)
    verdict = (
        f"{len(wrong)} cells are wrong" if wrong else "everything passes" if options.open else "just as policy says"
    )
    print(f"{len(measured)} hosts, {len(all_cells)} cells, {questions} probes over IPv4 and IPv6: {verdict}")
    return 1 if wrong or unclear else 0


if __name__ == "__main__":
    sys.exit(main())
