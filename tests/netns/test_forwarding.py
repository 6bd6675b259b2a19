# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host forwards: turned on and off in step with its rules, for good, and given back as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from netns.namespace import Namespace, namespace
from netns.test_closed import ADVERTISE, pings, python
from netns.test_confirm import wait_until
from netns.test_console import PROGRAM, console
from netns.test_flows import Link, link
from netns.test_module import Module

__all__ = ["link"]

Plain = dict[str, Any]

FILE = "/etc/sysctl.d/zz-palisade-egress.conf"
NOTE = "/var/lib/palisade-egress/forwarding.json"
RULES = [{"name": "all", "chain": "output", "action": "accept", "protocol": "tcp"}]
# Two limits at once, which no kernel takes.
REFUSED = {
    "name": "both",
    "chain": "output",
    "action": "accept",
    "limit": {"rate": "1/second"},
    "log": {"prefix": "x", "rate": "1/second"},
}
ON, OFF = {"ipv4": True, "ipv6": True}, {"ipv4": False, "ipv6": False}
ROUTER = {"ipv4/conf/all/forwarding": 1, "ipv6/conf/all/forwarding": 1}
SERVER = {"ipv4/conf/all/forwarding": 0, "ipv6/conf/all/forwarding": 0}
# What is no default of the kernel: each of these is to come back.
ODD = {
    **ROUTER,
    "ipv4/conf/all/accept_redirects": 1,
    "ipv4/conf/default/forwarding": 0,
    "ipv4/conf/one/forwarding": 0,
    "ipv6/conf/one/forwarding": 0,
    "ipv6/conf/default/forwarding": 0,
}
# Forwards all the same.
HIDDEN = {**SERVER, "ipv4/conf/all/accept_redirects": 0, "ipv4/conf/one/forwarding": 1}
OF_FAMILY = {
    "ipv4": ["ipv4/conf/all/accept_redirects", *(f"ipv4/conf/{name}/forwarding" for name in ("all", "default", "one"))],
    "ipv6": [f"ipv6/conf/{name}/{flag}" for name in ("all", "default", "one") for flag in ("forwarding", "accept_ra")],
}


def put(where: Namespace, **values: Any) -> None:
    for path, value in values.items():
        where.must(f"tee /proc/sys/net/{path}", str(value))


def settings(where: Namespace) -> str:
    """Return all that has to do with forwarding."""
    paths = [f"/proc/sys/net/{path}" for paths in OF_FAMILY.values() for path in paths]
    return where.must("grep -H . " + " ".join(paths))


def on(where: Namespace) -> list[str]:
    """Return the families that are forwarded, as far as the setting of all interfaces tells."""
    return [f for f in OF_FAMILY if where.must(f"cat /proc/sys/net/{f}/conf/all/forwarding").strip() == "1"]


def apply(box: Namespace, forwarding: Plain, **options: Any) -> Plain:
    answer = Module(box)(rules=options.pop("rules", RULES), forwarding=forwarding, **options)
    assert not answer.get("failed"), answer["msg"]
    return answer


def told(answer: Plain) -> list[tuple[Any, ...]]:
    """Return what a plan says about forwarding."""
    return [(c["name"], c["before"]["on"], c["after"]["on"]) for c in answer["plan"] if c["what"] == "forwarding"]


@pytest.fixture
def host(box: Namespace) -> Namespace:
    """Return a host with an interface, which forwards nothing."""
    box.must("ip link add one type veth peer name two")
    put(box, **SERVER)
    return box


# what is there | what is asked for | what the plan says | what is forwarded then
CASES = [
    (SERVER, OFF, [], []),
    (SERVER, ON, [("ipv4", False, True), ("ipv6", False, True)], ["ipv4", "ipv6"]),
    (SERVER, {"ipv4": True}, [("ipv4", False, True)], ["ipv4"]),
    (SERVER, {"ipv4": True, "ipv6": False}, [("ipv4", False, True)], ["ipv4"]),
    (SERVER, {}, [], []),
    (ROUTER, ON, [], ["ipv4", "ipv6"]),
    (ROUTER, OFF, [("ipv4", True, False), ("ipv6", True, False)], []),
    (ROUTER, {"ipv6": False}, [("ipv6", True, False)], ["ipv4"]),
    (ROUTER, {}, [], ["ipv4", "ipv6"]),
    (ODD, ON, [], ["ipv4", "ipv6"]),
    (ODD, OFF, [("ipv4", True, False), ("ipv6", True, False)], []),
    (HIDDEN, OFF, [("ipv4", True, False)], []),
    (HIDDEN, ON, [("ipv4", True, True), ("ipv6", False, True)], ["ipv4", "ipv6"]),
]


@pytest.mark.parametrize("persist", [True, False])
@pytest.mark.parametrize(("before", "asked", "plan", "after"), CASES)
def test_it_is_as_asked_for_and_comes_back(
    before: Plain, asked: Plain, plan: list[Any], after: list[str], persist: bool, host: Namespace
) -> None:
    put(host, **before)
    found = settings(host)
    checked = apply(host, asked, persist=persist, check=True)
    assert settings(host) == found
    real = apply(host, asked, persist=persist)
    assert (real["plan"], told(real), on(host)) == (checked["plan"], plan, after)
    if not plan:
        assert settings(host) == found
    assert apply(host, asked, persist=persist)["plan"] == []
    if asked == OFF:
        assert "forwarding:1" not in host.must("grep -rH . /proc/sys/net/ipv4/conf --include=forwarding")
    gone = Module(host)(state="absent", persist=persist)
    assert settings(host) == found
    assert [name for name, _before, _after in told(gone)] == [name for name, _before, _after in plan]
    assert Module(host)(state="absent", persist=persist)["plan"] == []
    assert host.must("find /etc/sysctl.d /var/lib /run -name *palisade*") == ""


def test_redirects_are_refused_as_before(host: Namespace) -> None:
    put(host, **ROUTER)
    assert host.must("cat /proc/sys/net/ipv4/conf/all/accept_redirects") == "0\n"
    apply(host, OFF)
    assert host.must("cat /proc/sys/net/ipv4/conf/all/accept_redirects") == "0\n"


def test_a_family_that_is_no_longer_asked_for_comes_back(host: Namespace) -> None:
    apply(host, ON)
    assert told(apply(host, {"ipv4": True})) == [("ipv6", True, False)]
    assert told(apply(host, {"ipv4": False})) == [("ipv4", True, False)]
    put(host, **ROUTER)
    assert told(apply(host, {})) == []  # somebody else has turned it on since
    assert on(host) == ["ipv4", "ipv6"]


def test_what_somebody_has_changed_is_put_right_and_told(host: Namespace) -> None:
    apply(host, OFF)
    put(host, **{"ipv4/conf/one/forwarding": 1})
    assert told(apply(host, OFF)) == [("ipv4", True, False)]
    assert told(apply(host, OFF)) == []


def test_the_diff_tells(host: Namespace) -> None:
    diff = apply(host, {"ipv4": True, "ipv6": False}, diff=True)["diff"]
    assert diff["before"].endswith("forwarding of ipv4: off\n")
    assert diff["after"].endswith("forwarding of ipv4: on\n")


def stage(host: Namespace, name: str, forwarding: Plain, **options: Any) -> Plain:
    confirm = {"stage": name, "token": "abc", "timeout": options.pop("timeout", 60)}
    return Module(host)(rules=RULES, forwarding=forwarding, persist=True, confirm=confirm, **options)


@pytest.mark.parametrize("rules", [[], RULES], ids=["with rules", "alone"])
@pytest.mark.parametrize(("before", "asked"), [(SERVER, ON), (ODD, OFF), (HIDDEN, OFF)])
def test_what_nobody_confirms_is_taken_back(before: Plain, asked: Plain, rules: list[Plain], host: Namespace) -> None:
    put(host, **before)
    apply(host, {}, rules=rules)
    found, held = settings(host), host.everything()
    assert stage(host, "apply", asked, timeout=2)["pending"]
    assert settings(host) != found
    wait_until(lambda: settings(host) == found and host.everything() == held)
    wait_until(lambda: host.run(["ls", NOTE]).code != 0)
    assert "took the change back" in stage(host, "confirm", asked)["msg"]


@pytest.mark.parametrize("asked", [ON, OFF])
def test_what_is_confirmed_stands_and_is_saved(asked: Plain, host: Namespace) -> None:
    put(host, **(SERVER if asked == ON else ROUTER))
    found = settings(host)
    assert stage(host, "apply", asked, timeout=4)["pending"]
    assert host.run(["ls", FILE]).code != 0
    told_again = stage(host, "confirm", asked)
    assert [c["what"] for c in told_again["plan"] if c["what"] != "rule"] == [
        "ruleset", "chain", "forwarding", "forwarding", "saved rules", "boot unit",
    ]  # fmt: skip
    changed = settings(host)
    time.sleep(5)
    assert settings(host) == changed
    lines = host.must(f"grep -v ^# {FILE}").splitlines()
    value = 1 if asked == ON else 0
    assert {f"net.ipv4.ip_forward = {value}", f"net.ipv6.conf.all.forwarding = {value}"} < set(lines)
    assert '"forwarding": {"ipv4": ' in host.must("cat /var/lib/palisade-egress/rules-00000001.json")
    Module(host)(state="absent", persist=True)
    assert settings(host) == found


@pytest.mark.parametrize(("before", "asked"), [(SERVER, ON), (ODD, OFF)])
def test_a_change_that_fails_leaves_it_as_it_was(before: Plain, asked: Plain, host: Namespace) -> None:
    put(host, **before)
    found = settings(host)
    assert Module(host)(rules=[*RULES, REFUSED], forwarding=asked)["failed"]
    assert settings(host) == found
    assert host.must("find /run -name forwarding-*") == ""


def test_it_goes_on_when_the_rules_are_in_force(host: Namespace) -> None:
    """Have nft tell what is forwarded at the moment at which it loads rules."""
    host.must("mkdir /run/bin")
    host.must("tee /run/bin/nft", '#!/bin/sh\n[ "$*" != "-f -" ] || cat /proc/sys/net/ipv4/ip_forward >>/run/seen\n'
              'exec /usr/sbin/nft "$@"\n')  # fmt: skip
    host.must("chmod +x /run/bin/nft")
    wrapped = Namespace(host.name, (*host.wrapper, "env", "PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
    apply(wrapped, ON)
    apply(wrapped, OFF, rules=[{**RULES[0], "name": "other"}])
    assert host.must("cat /run/seen").split() == ["0", "0"]


@pytest.fixture
def read_only(host: Namespace) -> Namespace:
    """Return a host whose settings cannot be changed, as that of a container."""
    host.must("mount --bind /proc/sys /proc/sys")
    host.must("mount -o remount,bind,ro /proc/sys")
    return host


def test_settings_that_cannot_be_written_are_no_trouble_where_they_are_right(read_only: Namespace) -> None:
    apply(read_only, OFF, persist=True)
    assert apply(read_only, OFF, persist=True)["changed"] is False


@pytest.mark.parametrize("check", [True, False])
def test_settings_that_cannot_be_written_are_told_before_anything_changes(check: bool, read_only: Namespace) -> None:
    answer = Module(read_only)(rules=RULES, forwarding=ON, check=check)
    assert answer["msg"].startswith("forwarding.ipv4: /proc/sys/net/ipv4/conf/all/forwarding has to be 1, and cannot")
    assert read_only.everything() == ""


@pytest.mark.parametrize("accept_ra", [1, 2])
def test_a_default_route_that_was_advertised_is_not_lost(accept_ra: int, link: Link) -> None:
    put(link.here, **{**SERVER, "ipv6/conf/wire/accept_ra": accept_ra})
    for _attempt in range(50):
        python(link.there, ADVERTISE)
        routes = link.here.must("ip -6 route show default")
        if routes:
            break
        time.sleep(0.2)
    assert "proto ra" in routes
    answer = Module(link.here)(rules=RULES, forwarding=ON)
    if accept_ra == 1:
        assert "the default route by wire came with a router advertisement" in answer["msg"]
        assert link.here.everything() == ""
        assert on(link.here) == []
    else:
        assert on(link.here) == ["ipv4", "ipv6"]
    assert "proto ra" in link.here.must("ip -6 route show default")


def test_forwarding_goes_with_rules_only(host: Namespace) -> None:
    assert "forwarding: goes with state: present only" in Module(host)(state="absent", forwarding=OFF)["msg"]


@pytest.fixture
def passage() -> Iterator[tuple[Namespace, Namespace]]:
    """Return a host with another one on each side of it: itself, and the one that asks for the other."""
    with namespace() as left, namespace() as middle, namespace() as right:
        for number, name, end, net in ((1, "left", left, "203.0.113"), (2, "right", right, "198.51.100")):
            middle.must(f"ip link add {name} type veth peer name wire netns {end.name}")
            for where, device, last in ((middle, name, 1), (end, "wire", 2)):
                where.must(f"ip link set {device} up")
                where.must(f"ip address add {net}.{last}/24 dev {device}")
                where.must(f"ip address add 2001:db8:{number}::{last}/64 dev {device} nodad")
            end.must(f"ip route add default via {net}.1")
            end.must(f"ip route add default via 2001:db8:{number}::1")
        put(middle, **SERVER)
        # Neighbours are asked for from an address of the link, which takes a second or so to be one.
        for where in (left, middle, right):
            wait_until(lambda where=where: "tentative" not in where.must("ip -6 address"))
        yield middle, left


@pytest.mark.parametrize(("asked", "to"), [("ipv4", "198.51.100.2"), ("ipv6", "2001:db8:2::2")])
def test_packets_pass_where_it_is_on(asked: str, to: str, passage: tuple[Namespace, Namespace]) -> None:
    middle, left = passage
    # Each interface decides for what comes in by it.
    flag = "forwarding" if asked == "ipv4" else "force_forwarding"
    hidden = {f"{asked}/conf/{interface}/{flag}": 1 for interface in ("left", "right")}
    assert not pings(left, to)
    apply(middle, {**OFF, asked: True})
    assert pings(left, to)
    apply(middle, OFF)
    assert not pings(left, to)
    put(middle, **hidden)
    assert pings(left, to)
    assert told(apply(middle, OFF)) == [(asked, True, False)]
    assert not pings(left, to)


@pytest.mark.parametrize(
    ("asked", "drift"),
    [(OFF, ROUTER), (OFF, HIDDEN), (OFF, {"ipv6/conf/one/force_forwarding": 1}), (ON, SERVER)],
)
def test_the_timer_turns_it_back(asked: Plain, drift: Plain, host: Namespace) -> None:
    apply(host, asked, persist=True)
    host.must(f"{PROGRAM} remember")
    found = settings(host)
    put(host, **drift)
    status = console(host, "status")
    assert (status.code, "something has turned forwarding on or off" in status.output) == (1, True)
    assert console(host, "check").code == 0
    assert on(host) == (["ipv4", "ipv6"] if asked == ON else [])
    assert console(host, "status").code == 0
    if drift == ROUTER:
        assert settings(host).replace("accept_redirects:0", "accept_redirects:1") == found
    assert apply(host, asked, persist=True)["changed"] is False


def test_the_timer_leaves_alone_what_nobody_has_asked_for(host: Namespace) -> None:
    apply(host, {}, persist=True)
    host.must(f"{PROGRAM} remember")
    put(host, **ROUTER)
    assert console(host, "check").code == 0
    assert on(host) == ["ipv4", "ipv6"]
