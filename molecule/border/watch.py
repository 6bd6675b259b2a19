# SPDX-License-Identifier: GPL-3.0-or-later
"""Send what vars/cases.yml says from hosts of the lab, sniff wherever it may come by, and tell where each packet died.

Takes the name of a list of cases. Each case and family has a source port of its own, by which sniffers know it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
# Flows of the last run may still be known.
FIRST_PORT = 20000 + int(time.time()) % 300 * 100
SECONDS = 15
# Where a host is: the interface of the router, by which the others are across.
ROUTER = "router1"


@dataclass(frozen=True)
class Case:
    """One packet: who sends it as whom to where, by a socket or past all filters, and where it has to die."""

    sender: str
    claimed: str
    target: str
    port: str
    by: str
    dies: str
    family: str
    source_port: int

    def __str__(self) -> str:
        """Tell it in a line."""
        how = (" as " + self.claimed if self.claimed != self.sender else "") + (" by packet" if self.by else "")
        return f"{self.sender}{how} → {self.target} {self.port} over {self.family}"


def inside(host: str, *command: str, data: str = "") -> str:
    """Return what a command prints in a host of the lab."""
    done = subprocess.run(
        ["podman", "exec", "--interactive", f"palisade-{host}", *command],
        input=data, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{host}: {' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def cases(name: str) -> list[Case]:
    """Return the cases of a list, each once for each family."""
    found: list[Case] = []
    for case in yaml.safe_load((HERE / "vars" / "cases.yml").read_text(encoding="utf-8"))[name]:
        for family in ("ipv4", "ipv6"):
            claimed, by = case.get("as", case["from"]), case.get("by", "")
            port = FIRST_PORT + len(found)
            found.append(Case(case["from"], claimed, case["to"], case["port"], by, case["dies"], family, port))
    return found


def addresses() -> dict[str, dict[str, str]]:
    """Return the first address of each host, by family."""
    listed = subprocess.run(["ansible-inventory", "--list"], capture_output=True, text=True, check=True).stdout
    found = {}
    for host, values in json.loads(listed)["_meta"]["hostvars"].items():
        known = values.get("egress_firewall_addresses", [])
        found[host] = {"ipv4": next(a for a in known if "." in a), "ipv6": next(a for a in known if ":" in a)}
    return found


def segments() -> dict[str, str]:
    """Return the segment of each host but the router, as expected.yml tells."""
    listed = yaml.safe_load((HERE.parent / "lab" / "expected.yml").read_text(encoding="utf-8"))["segments"]
    return {host: segment for segment, hosts in listed.items() for host in hosts if host != ROUTER}


# Writes down what comes by an interface, and returns once it does.
SNIFF = """
rm -f /tmp/sniffer-$1
timeout $2 tcpdump -nn -l -i $1 'tcp or udp' > /tmp/seen-$1 2> /tmp/sniffer-$1 < /dev/null &
for _ in $(seq 100); do
    grep -qs 'listening on' /tmp/sniffer-$1 && exit
    sleep 0.05
done
exit 1
"""


def sniff(places: list[tuple[str, str]]) -> None:
    """Begin to write down at these hosts what comes by an interface."""
    for host, interface in places:
        inside(host, "sh", "-c", SNIFF, "sniff", interface, str(SECONDS))


def level(case: Case, seen: dict[tuple[str, str], str], where: dict[str, str]) -> str:
    """Return where a packet died, and what is strange about it if nobody can have stopped it there."""
    mark = f".{case.source_port} > "
    arrived = mark in seen[case.target, "eth0"]
    crosses = where[case.sender] != where[case.target]
    before, behind = (mark in seen[ROUTER, where[host]] for host in (case.sender, case.target))
    if not crosses:
        return "nowhere" if arrived else "host"
    known = {
        (False, False, False): "host",
        (True, False, False): "border",
        (True, True, True): "nowhere",
    }
    return known.get(
        (before, behind, arrived), f"seen before the router: {before}, behind it: {behind}, there: {arrived}"
    )


def main() -> int:
    """Send, look, and judge."""
    name = sys.argv[1]
    found, known, where = cases(name), addresses(), segments()
    hosts = sorted({case.target for case in found})
    places = [(ROUTER, segment) for segment in sorted(set(where.values()))] + [(host, "eth0") for host in hosts]
    sniff(places)
    script = (HERE / "send.py").read_text(encoding="utf-8")
    for sender in sorted({case.sender for case in found}):
        orders = [
            [case.by, known[case.claimed][case.family], case.source_port, known[case.target][case.family], case.port]
            for case in found
            if case.sender == sender
        ]
        inside(sender, "python3", "-", json.dumps(orders), data=script)
    time.sleep(0.5)
    seen = {(host, interface): inside(host, "cat", f"/tmp/seen-{interface}") for host, interface in places}
    wrong = 0
    for case in found:
        died = level(case, seen, where)
        mark = "" if died == case.dies else f"   ✗ has to be {case.dies}"
        wrong += died != case.dies
        print(f"{case!s:<60} dies: {died}{mark}")
    print(f"{name}: {len(found)} packets, {wrong} of them otherwise than they had to be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
