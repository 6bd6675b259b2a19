# SPDX-License-Identifier: GPL-3.0-or-later
"""Send packets that are denied, and tell what the logs of this host have of them.

``denied.py knock ADDRESS,…`` sends a datagram to each address, and prints from which ports. ``denied.py send COUNT PORT
ADDRESS,… KNOCKING…`` sends so many datagrams to each, and then connects to the port; it waits until the logs tell of
that. It prints, as JSON: what ``passed``; what lines begin with in the ``files`` of rsyslog, in the ``journal`` of the
kernel and in the ``json`` of ulogd2, all about those packets and those from where somebody knocked; how many datagrams
were ``sent``, and how many of them rsyslog has ``logged``, of which ``most`` are allowed.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# Where datagrams go.
WORM = 1434
REST = Path("/var/log/syslog")
FILES, JSON = Path("/var/log/egress"), Path("/var/log/ulog/egress.json.log")
PREFIX = re.compile(r"egress [a-z]+ .*?(?= +IN=)")
# How long the programs between the kernel and a log may take.
PATIENCE = 20


def datagrams(addresses: list[str], count: int) -> tuple[set[int], bool]:
    """Send to each address; return from which ports, and whether all have answered."""
    ports, answered = set(), []
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.connect((address, WORM))
            ports.add(end.getsockname()[1])
            for _number in range(count):
                with suppress(PermissionError):
                    end.send(b"x")
            end.settimeout(1)
            try:
                answered.append(bool(end.recv(9)))
            except OSError:
                answered.append(False)
    return ports, all(answered)


def connections(addresses: list[str], port: int) -> tuple[set[int], bool]:
    """Connect to each address; return from which ports, and whether all have answered."""
    ports, answered = set(), []
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as end:
            end.settimeout(1)
            end.bind(("", 0))
            ports.add(end.getsockname()[1])
            answered.append(end.connect_ex((address, port)) == 0)
    return ports, all(answered)


def files() -> dict[str, list[str]]:
    """Return the lines of files that rsyslog has made, by name: those that are meant for it, and where the rest is."""
    paths = [*FILES.glob("*.log"), REST]
    return {path.stem: path.read_text().splitlines() for path in paths if path.exists()}


def journal() -> list[str]:
    """Return what journald has from the kernel."""
    command = ["journalctl", "--dmesg", "--boot", "--output=cat", "--grep=^egress "]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def objects() -> list[dict[str, Any]]:
    """Return what ulogd2 has written."""
    return [json.loads(line) for line in JSON.read_text().splitlines()] if JSON.is_file() else []


def from_port(line: str, ports: set[int]) -> bool:
    """Tell whether a line is about a packet from one of these ports: the kernel's log is that of all hosts."""
    return any(f" SPT={port} " in f"{line} " for port in ports)


def prefixes(lines: list[str]) -> list[str]:
    """Return what lines begin with, each once."""
    return sorted({found.group() for found in map(PREFIX.search, lines) if found})


def wait(tcp: set[int]) -> None:
    """Wait until the last packets are in all logs that are in use."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        written = [f" SPT={each.get('src_port')}" for each in objects()] if JSON.is_file() else journal()
        logs = [[line for lines in files().values() for line in lines], written]
        if all(any(from_port(line, {port}) for line in log) for log in logs for port in tcp):
            return
        time.sleep(0.1)
    sys.exit(f"the logs do not tell of the connections: {logs}")


def main() -> None:
    """Do what the arguments ask for."""
    verb, *words = sys.argv[1:]
    if verb == "knock":
        print(*datagrams(words[0].split(","), 1)[0])
        return
    count, port, targets, *knocking = words
    addresses = targets.split(",")
    began = time.monotonic()
    udp, udp_passed = datagrams(addresses, int(count))
    # One bucket for both families: five at once, and one a second.
    most = 5 + int(time.monotonic() - began) + 1
    tcp, tcp_passed = connections(addresses, int(port))
    wait(tcp)
    ports = {*udp, *tcp, *map(int, knocking)}
    ours = {name: [line for line in lines if from_port(line, ports)] for name, lines in files().items()}
    print(
        json.dumps(
            {
                "passed": [name for name, passed in (("tcp", tcp_passed), ("udp", udp_passed)) if passed],
                "files": {name: prefixes(lines) for name, lines in ours.items() if lines},
                "journal": prefixes([line for line in journal() if from_port(line, ports)]),
                "json": sorted({each["oob.prefix"].rstrip() for each in objects() if each.get("src_port") in ports}),
                "sent": int(count) * len(addresses),
                "logged": sum(from_port(line, udp) for lines in ours.values() for line in lines),
                "most": most,
            }
        )
    )


main()
