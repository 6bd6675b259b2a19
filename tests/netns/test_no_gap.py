# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Not one packet is let out or held back by mistake while rules change: old or new ones hold at each moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from subprocess import PIPE, Popen
from typing import Any

import pytest
from netns.namespace import Namespace, namespace
from netns.test_module import PATHS

Plain = dict[str, Any]

CHANGES = 200
ALLOWED, DENIED = 7001, 7002
ADDRESSES = {"here": ("198.51.100.1", "2001:db8:1::1"), "there": ("198.51.100.2", "2001:db8:1::2")}
MACS = {"here": "02:00:00:00:00:01", "there": "02:00:00:00:00:02"}

# Sends numbered datagrams to both ports of both addresses until its input ends, and says how many of each.
SENDER = """
import select, socket, sys, time
sockets = [(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM), address)
           for address in sys.argv[3:]]
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for port in sys.argv[1:3]:
        for sock, address in sockets:
            try:
                sock.sendto(number.to_bytes(8, "big"), (address, int(port)))
            except PermissionError:
                pass  # what is dropped on its way out
    number += 1
    if number == 1:
        print("sending", flush=True)
    time.sleep(0.0015)
print(number, flush=True)
"""
# Prints, once its input ends, the numbers that came, for each port and address.
RECEIVER = """
import json, selectors, socket, sys
SO_RCVBUFFORCE = 33
selector, came = selectors.DefaultSelector(), {}
for port in sys.argv[1:3]:
    for address in sys.argv[3:]:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        sock.bind((address, int(port)))
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, came.setdefault(f"{port} {address}", []))
selector.register(sys.stdin, selectors.EVENT_READ)
print("receiving", flush=True)
ended = False
while not ended:
    for key, _events in selector.select():
        if key.fileobj is sys.stdin:
            ended = True
            continue
        try:
            while True:
                key.data.append(int.from_bytes(key.fileobj.recv(100), "big"))
        except BlockingIOError:
            pass
print(json.dumps(came), flush=True)
"""
# Makes as many changes as there are lines to read, and confirms each; as processes they are tested elsewhere.
CHANGER = """
import json, shutil, subprocess, sys
from types import SimpleNamespace
from ansible_collections.palisade.egress.plugins.module_utils._apply import apply_rules

def run_command(words, data, environ_update, **_options):
    done = subprocess.run(words, input=data, env=environ_update, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr

def run(stage, number, wanted):
    params = {"state": "present", "backend": "auto", "midstream": "never", "live_flows": "end", "persist": False,
              "guard": True, "login": "", "probes": None, "forwarding": {"ipv4": None, "ipv6": None}, **wanted,
              "confirm": {"stage": stage, "token": f"{number:012}", "timeout": 30}}
    return apply_rules(SimpleNamespace(
        params=params, check_mode=False, _diff=False, warn=print, run_command=run_command,
        get_bin_path=lambda name, required=False: shutil.which(name)))

for number, line in enumerate(sys.stdin):
    wanted = json.loads(line)
    assert run("apply", number, wanted)["pending"]
    assert not run("confirm", number, wanted)["pending"]
"""


def ruleset(letter: str, priority: int, own: list[Plain]) -> Plain:
    """Return rules of which only one lets something out, somewhere among others."""
    many = [
        {"name": f"{letter}{number}", "chain": "output", "action": "drop", "protocol": "udp",
         "destination": [f"203.0.113.{number + 100 * (letter == 'a')}"], "destination_ports": [str(8000 + number)]}
        for number in range(20)
    ]  # fmt: skip
    grant = {"name": f"grant-{letter}", "chain": "output", "action": "accept", "protocol": "udp"}
    rules = [*many[:9], *own, {**grant, "destination_ports": [str(ALLOWED)]}, *many[9:]]
    return {"rules": rules, "chains": {"output": {"default": "drop", "priority": priority}}}


# Each differs from the next one in all its rules, and the last one in its chain: that is made anew.
RULESETS = [
    ruleset("a", 0, [{"name": "deny", "chain": "output", "action": "drop", "destination_ports": [str(DENIED)],
                      "protocol": "udp"}]),
    ruleset("b", 0, []),
    ruleset("c", 5, [{"name": "deny", "chain": "output", "action": "drop", "source": [ADDRESSES["here"][0]],
                      "protocol": "udp", "destination_ports": [str(DENIED)]}]),
]  # fmt: skip


@dataclass
class World:
    """Two hosts with a wire between them; what one sends is noted by the other."""

    here: Namespace
    there: Namespace

    def start(self, where: Namespace, program: str, *arguments: object) -> Popen[str]:
        command = ["nsenter", f"--net=/run/netns/{where.name}", *where.wrapper, sys.executable, "-c", program]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
        return Popen([*command, *map(str, arguments)], stdin=PIPE, stdout=PIPE, text=True, env=environment)

    def change(self, rulesets: list[Plain]) -> None:
        """Change the rules so often."""
        with self.start(self.here, CHANGER) as changer:
            changer.communicate("".join(f"{json.dumps(wanted)}\n" for wanted in rulesets))
        assert changer.returncode == 0

    def received_during(self, happens: Any) -> tuple[int, Plain]:
        """Return how many of each were sent meanwhile, and the numbers that came, by port and address."""
        with ExitStack() as stack:
            receiver = stack.enter_context(self.start(self.there, RECEIVER, ALLOWED, DENIED, *ADDRESSES["there"]))
            stack.callback(receiver.kill)
            assert receiver.stdout.readline() == "receiving\n"
            sender = stack.enter_context(self.start(self.here, SENDER, ALLOWED, DENIED, *ADDRESSES["there"]))
            stack.callback(sender.kill)
            assert sender.stdout.readline() == "sending\n"
            happens()
            sent = int(sender.communicate("end\n")[0])
            return sent, json.loads(receiver.communicate("end\n")[0])


@pytest.fixture
def world(box: Namespace) -> Iterator[World]:
    with ExitStack() as stack:
        there = stack.enter_context(namespace())
        stack.callback(kill_what_waits, box)
        wire = ["ip", "-n", box.name, "link", "add", "here", "address", MACS["here"], "type", "veth"]
        peer = ["peer", "name", "there", "address", MACS["there"], "netns", there.name]
        subprocess.run([*wire, *peer], check=True)
        for where, name, other in ((box, "here", "there"), (there, "there", "here")):
            where.must(f"ip link set {name} up")
            for own, far, bits in zip(ADDRESSES[name], ADDRESSES[other], (24, 64), strict=True):
                where.must(f"ip addr add {own}/{bits} dev {name}{' nodad' if ':' in own else ''}")
                # Nobody has to be asked who is where: nothing but the datagrams leaves.
                where.must(f"ip neigh add {far} lladdr {MACS[other]} dev {name} nud permanent")
        for far in ADDRESSES["there"]:
            # A wire may take a moment until it carries anything.
            box.must(f"ping -q -c 1 -i 0.2 -w 30 {far}")
        yield World(box, there)


def kill_what_waits(box: Namespace) -> None:
    """End the watchdogs: without systemd they sleep until their time, and then find nothing to do."""
    listed = subprocess.run(["ip", "netns", "pids", box.name], capture_output=True, text=True, check=True)
    subprocess.run(["kill", "-9", *listed.stdout.split()], check=False, capture_output=True)


def test_no_packet_slips_through_and_none_is_lost(world: World) -> None:
    world.change(RULESETS[-1:])
    rulesets = [RULESETS[number % len(RULESETS)] for number in range(CHANGES)]
    sent, came = world.received_during(lambda: world.change(rulesets))
    assert sent > CHANGES
    for address in ADDRESSES["there"]:
        assert came[f"{DENIED} {address}"] == []
        assert came[f"{ALLOWED} {address}"] == list(range(sent))


# What leaves a gap between old rules and new ones, and of which port that is seen.
GAPS = {
    "flushed and loaded again": ("flush ruleset", DENIED),
    "closed and loaded again": ("flush chain inet palisade_egress output", ALLOWED),
}


@pytest.mark.parametrize("gap", GAPS)
def test_a_gap_would_be_seen(gap: str, world: World) -> None:
    commands, port = GAPS[gap]
    world.change(RULESETS[:1])
    rules = world.here.everything()

    def happens() -> None:
        world.here.nft(commands)
        world.here.nft(f"flush ruleset\n{rules}")

    sent, came = world.received_during(happens)
    for address in ADDRESSES["there"]:
        if port == DENIED:
            assert came[f"{DENIED} {address}"]
        else:
            assert len(came[f"{ALLOWED} {address}"]) < sent
