# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what measure.yml measured against expected.yml: print it as a matrix, exit with 1 where they differ.

With --open every cell must pass: so it is before the fence is up, and only then does "blocked" mean anything after it.
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

    @property
    def right(self) -> bool:
        """Tell whether all passed that had to, or nothing that had not."""
        return self.passed == (self.asked if self.expected else frozenset())

    @property
    def symbol(self) -> str:
        """Show what passed; a second character marks what policy says otherwise."""
        return what_passed(self.asked, self.passed) + ("" if self.right else WRONG)


def what_passed(asked: frozenset[Question], passed: frozenset[Question]) -> str:
    """Return one character."""
    if passed == asked:
        return "✓"
    if not passed:
        return "·"
    for family in FAMILIES:
        if passed == {question for question in asked if question[1] == family}:
            return family[-1]
    return "~"


def cells(measured: Measured, services: dict[str, list[str]], reaches: Reaches, *, everything: bool) -> list[Cell]:
    """Return all cells; hosts stand in the order of the policy, after those that are only targets: the internet."""
    targets = {target for answers in measured.values() for target in answers}
    return [
        Cell(
            source,
            target,
            service,
            frozenset((port, family) for port in ports for family in FAMILIES),
            frozenset((port, family) for port in ports for family in measured[source][target][port]),
            everything or service in granted.get(target, []),
        )
        for source, granted in reaches.items()
        for target in [*sorted(targets - reaches.keys()), *(name for name in reaches if name != source)]
        for service, ports in services.items()
    ]


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
    """Return a row for each pair of hosts, a column for each service."""
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in all_cells:
        rows.setdefault((cell.source, cell.target), []).append(cell)
    lines = [f"{'from':<8} {'to':<8}  " + "  ".join(services)]
    previous = ""
    for (source, target), row in rows.items():
        if source != previous:
            lines.append("")
        shown = "  ".join(f"{cell.symbol:^{len(cell.service)}}" for cell in row)
        lines.append(f"{source if source != previous else '':<8} {target:<8}  {shown}".rstrip())
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


def arguments() -> argparse.Namespace:
    """Return the command line's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--open", action="store_true", help="expect everything to pass")
    parser.add_argument("--measured", type=Path, default=LAB.parent.parent / ".cache" / "lab" / "measured.json")
    parser.add_argument("--expected", type=Path, default=LAB / "expected.yml")
    return parser.parse_args()


def main() -> int:
    """Print and judge."""
    options = arguments()
    measured = json.loads(options.measured.read_text(encoding="utf-8"))
    expected = yaml.safe_load(options.expected.read_text(encoding="utf-8"))
    services, reaches = expected["services"], expected["reaches"]
    unknown = unknown_names(measured, services, reaches)
    if unknown:
        print(f"{options.expected.name} and {options.measured.name} do not fit together:", *unknown, sep="\n  ")
        return 1

    all_cells = cells(measured, services, reaches, everything=options.open)
    wrong = [cell for cell in all_cells if not cell.right]
    if wrong or not options.open:
        print(table(all_cells, list(services)), "", sep="\n")
        print(
            f"✓ passed   · blocked   4, 6 only over IPv4, IPv6   ~ some ports   {WRONG} policy says otherwise",
            "",
            sep="\n",
        )
    for line in explanations(wrong):
        print(line)
    questions = sum(len(cell.asked) for cell in all_cells)
    verdict = (
        f"{len(wrong)} cells are wrong" if wrong else "everything passes" if options.open else "just as policy says"
    )
    print(f"{len(measured)} hosts, {len(all_cells)} cells, {questions} probes over IPv4 and IPv6: {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
