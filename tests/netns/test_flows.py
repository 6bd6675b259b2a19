# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of real connections that are open when rules change: between two hosts, in both directions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from netns.namespace import Namespace, namespace

HERE, THERE = "198.51.100.1", "198.51.100.2"
HERE6, THERE6 = "2001:db8:1::1", "2001:db8:1::2"
COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"
MODULE = "ansible_collections.palisade.egress.plugins.modules.egress_rule"

ESTABLISHED = {"name": "established", "chain": "output", "action": "accept", "ctstate": ["established"]}
NO_SYN = {
    "name": "no-syn",
    "chain": "input",
    "action": "drop",
    "protocol": "tcp",
    "ctstate": ["new"],
    "tcp_flags": {"mask": ["syn"]},
}
DISCOVERY = {"name": "nd", "chain": "output", "action": "accept", "protocol": "icmpv6"}
FENCE = [ESTABLISHED, DISCOVERY, NO_SYN]
CHAINS = {"output": {"default": "drop"}, "input": {"default": "accept"}}
GRANT = {"name": "grant", "chain": "output", "action": "accept", "protocol": "tcp", "destination_ports": ["7000"]}

# Accepts connections and answers each line; dials out on request; tells whether its connections still work.
PEER = """
import socket, sys
connections = {}
for line in sys.stdin:
    verb, name, *rest = line.split()
    if verb == "listen":
        family = socket.AF_INET6 if ":" in rest[0] else socket.AF_INET
        connections["listener" + name] = socket.create_server((rest[0], int(rest[1])), family=family)
    elif verb == "accept":
        connections[name] = connections["listener" + rest[0]].accept()[0]
    elif verb == "dial":
        source = ("", int(rest[2])) if rest[2:] else None
        connections[name] = socket.create_connection((rest[0], int(rest[1])), timeout=3, source_address=source)
    elif verb == "send":
        connections[name].sendall(b"hello\\n")
    elif verb == "receive":
        connections[name].settimeout(float(rest[0]))
        try:
            print("got" if connections[name].recv(100) else "closed", flush=True)
        except OSError:
            print("nothing", flush=True)
        continue
    print("done", flush=True)
"""


class Peer:
    """A process in a namespace that does as it is told, a line at a time."""

    def __init__(self, where: Namespace) -> None:
        self._process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{where.name}", sys.executable, "-c", PEER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, order: str) -> str:
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Link:
    """Two hosts on one wire, each with a process that holds connections; rules are applied on ``here``."""

    def __init__(self, here: Namespace, there: Namespace) -> None:
        self.here, self.there = here, there
        here.must(f"ip link add wire type veth peer name wire netns {there.name}")
        for host, address, address6 in ((here, HERE, HERE6), (there, THERE, THERE6)):
            host.must("ip link set lo up")
            host.must("ip link set wire up")
            host.must(f"ip address add {address}/24 dev wire")
            host.must(f"ip address add {address6}/64 dev wire nodad")
        self.near, self.far = Peer(here), Peer(there)

    def apply(self, rules: list[dict], **options: object) -> dict:
        """Run the module for real on ``here``."""
        arguments = {"rules": rules, "chains": CHAINS, **options}
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.here.name}", sys.executable, "-m", MODULE],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        )  # fmt: skip
        result = json.loads(done.stdout)
        assert not result.get("failed"), result["msg"]
        return result

    def connect(self, name: str, address: str, port: int, source_port: int = 0) -> None:
        """Open a connection; it ends where the address is."""
        server, client = (self.near, self.far) if address in (HERE, HERE6) else (self.far, self.near)
        assert server(f"listen {name} {address} {port}") == "done"
        assert client(f"dial {name} {address} {port} {source_port}") == "done"
        assert server(f"accept {name} {name}") == "done"

    @contextmanager
    def background(self, where: Namespace, code: str) -> Iterator[subprocess.Popen[str]]:
        """Run a few lines of Python in a namespace that say when they are up, and end them."""
        command = ["nsenter", f"--net=/run/netns/{where.name}", sys.executable, "-c", "import socket\n" + code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout.readline() == "up\n"
                yield process
            finally:
                process.kill()

    def lives(self, name: str) -> bool:
        """Tell whether what each side sends arrives on the other."""
        return all(self._arrives(*ends, name, patience=10) for ends in self._directions())

    def is_dead(self, name: str) -> bool:
        """Tell whether nothing that either side sends arrives on the other."""
        return not any(self._arrives(*ends, name, patience=1) for ends in self._directions())

    def _directions(self) -> tuple[tuple[Peer, Peer], ...]:
        return (self.near, self.far), (self.far, self.near)

    def _arrives(self, sender: Peer, receiver: Peer, name: str, patience: float) -> bool:
        sender(f"send {name}")
        return receiver(f"receive {name} {patience}") == "got"


@pytest.fixture
def link() -> Iterator[Link]:
    """Return two hosts that have never used connection tracking."""
    with namespace() as here, namespace() as there:
        made = Link(here, there)
        try:
            yield made
        finally:
            made.near.end()
            made.far.end()


@pytest.mark.parametrize(("here", "there"), [(HERE, THERE), (HERE6, THERE6)], ids=["ipv4", "ipv6"])
def test_first_apply_keeps_open_connections_and_knows_who_began_them(link: Link, here: str, there: str) -> None:
    link.connect("in", here, 5432)
    link.connect("out", there, 7000)
    assert link.apply([*FENCE, GRANT], midstream="on_first_apply")["midstream"]
    # Neither has sent anything while mid-stream TCP was let through.
    settled = link.apply([*FENCE, GRANT], midstream="on_first_apply")
    assert (settled["changed"], settled["midstream"], settled["flows_ended"]) == (True, False, 0)
    assert link.lives("in")
    assert link.lives("out")


def test_rules_that_asked_about_no_connection_make_the_next_a_first_apply(link: Link) -> None:
    link.apply([GRANT], chains={"output": {"default": "accept"}})
    link.connect("in", HERE, 5432)
    assert link.apply([*FENCE, GRANT], midstream="on_first_apply")["midstream"]
    assert not link.apply([*FENCE, GRANT], midstream="on_first_apply")["midstream"]
    assert link.lives("in")


def test_without_it_they_would_hang(link: Link) -> None:
    link.connect("in", HERE, 5432)
    link.apply(FENCE, midstream="never")
    assert link.is_dead("in")


def test_mid_stream_traffic_passes_until_the_second_run(link: Link) -> None:
    link.connect("in", HERE, 5432)
    link.apply(FENCE, midstream="on_first_apply")
    assert link.lives("in")
    link.apply(FENCE)
    assert link.lives("in")


@pytest.mark.parametrize(("here", "there"), [(HERE, THERE), (HERE6, THERE6)], ids=["ipv4", "ipv6"])
def test_what_the_new_rules_deny_ends_and_nothing_else(link: Link, here: str, there: str) -> None:
    link.apply([*FENCE, GRANT])
    link.connect("in", here, 5432)
    link.connect("out", there, 7000)
    told = link.apply(FENCE, _ansible_check_mode=True)
    assert told["flows_ended"] == 1
    assert link.lives("out")
    assert link.apply(FENCE)["flows_ended"] == 1
    assert link.lives("in")
    assert link.is_dead("out")
    assert link.apply(FENCE)["flows_ended"] == 0


def test_a_denied_flow_that_was_open_before_the_first_apply_ends_with_the_second_run(link: Link) -> None:
    link.connect("out", THERE, 7000)
    link.apply(FENCE, midstream="on_first_apply")
    assert link.lives("out")
    assert link.apply(FENCE)["flows_ended"] == 1
    assert link.is_dead("out")


def test_flows_are_kept_on_request(link: Link) -> None:
    link.apply([*FENCE, GRANT])
    link.connect("out", THERE, 7000)
    assert link.apply(FENCE, live_flows="keep")["flows_ended"] == 0
    assert link.lives("out")


def test_a_flow_that_an_unknown_could_allow_is_kept(link: Link) -> None:
    link.apply([*FENCE, GRANT])
    link.connect("out", THERE, 7000)
    by_owner = {**GRANT, "uid_owner": ["0"], "name": "of root"}
    assert link.apply([*FENCE, by_owner])["flows_ended"] == 0
    assert link.lives("out")


def test_an_inbound_flow_that_the_new_rules_deny_ends(link: Link) -> None:
    link.apply(FENCE)
    link.connect("in", HERE, 5432)
    refusal = {"name": "no", "chain": "input", "action": "drop", "protocol": "tcp", "destination_ports": ["5432"],
               "ctstate": ["new"]}  # fmt: skip
    assert link.apply([*FENCE, refusal])["flows_ended"] == 1
    assert link.is_dead("in")


def test_a_udp_flow_ends(link: Link) -> None:
    udp = {"name": "udp", "chain": "output", "action": "accept", "protocol": "udp", "destination_ports": ["7001"]}
    link.apply([*FENCE, udp])
    sender = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{THERE}', 7001))"
    link.here.run([sys.executable, "-c", sender])
    assert link.apply(FENCE)["flows_ended"] == 1


def test_expired_rules_allow_nothing(link: Link) -> None:
    link.apply([*FENCE, GRANT])
    link.connect("out", THERE, 7000)
    past = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    assert link.apply([*FENCE, {**GRANT, "expires": past}])["flows_ended"] == 1
    assert link.is_dead("out")
