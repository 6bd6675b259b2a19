# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out from this host which ports of which targets answer, over IPv4 and IPv6, all at the same time.

Reads {"targets": {name: [address, …]}, "ports": ["tcp/25", …]} from its argument, prints {name: {"tcp/25": ["ipv4"]}}:
the families over which a TCP connection was accepted or a UDP payload was answered.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys

# Long enough for one lost SYN to be sent again (after 1 s).
TIMEOUT = 1.6
# Datagrams get a second chance too.
UDP_SENDS = 2
# What is sent to a port where not everything is answered: a query for the name servers of the root.
PAYLOADS = {53: b"\x70\x61\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"}


class Answer(asyncio.DatagramProtocol):
    """Notes whether anything comes back."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.came = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Note it; only datagrams of the peer arrive at a connected socket."""
        self.came.set()


async def tcp(address: str, port: int) -> bool:
    """Tell whether the address accepts a connection."""
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), TIMEOUT)
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True


async def udp(address: str, port: int) -> bool:
    """Tell whether the address answers a datagram."""
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_datagram_endpoint(Answer, remote_addr=(address, port))
    try:
        for _attempt in range(UDP_SENDS):
            transport.sendto(PAYLOADS.get(port, b"palisade"))
            try:
                await asyncio.wait_for(answer.came.wait(), TIMEOUT / UDP_SENDS)
            except TimeoutError:
                continue
            return True
        return False
    finally:
        transport.close()


async def probe(targets: dict[str, list[str]], ports: list[str]) -> dict[str, dict[str, list[str]]]:
    """Return by target and port the families that pass."""
    kinds = {"tcp": tcp, "udp": udp}
    questions = [
        (name, address, port) for name, addresses in targets.items() for address in addresses for port in ports
    ]
    answers = await asyncio.gather(
        *(kinds[port.split("/")[0]](address, int(port.split("/")[1])) for _name, address, port in questions)
    )
    passed: dict[str, dict[str, list[str]]] = {name: {port: [] for port in ports} for name in targets}
    for (name, address, port), answered in zip(questions, answers, strict=True):
        if answered:
            passed[name][port].append(f"ipv{ipaddress.ip_address(address).version}")
    return passed


if __name__ == "__main__":
    print(json.dumps(asyncio.run(probe(**json.loads(sys.argv[1])))))
