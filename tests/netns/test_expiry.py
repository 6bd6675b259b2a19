# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What expires ends by itself: new connections and live ones, by compiled policies, with no run in between.

The clock is never set: grants and waivers expire a few seconds ahead, and the tests wait.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from netns.test_flows import HERE, HERE6, THERE, THERE6, Link, link

from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

__all__ = ["link"]

FAMILIES = pytest.mark.parametrize(("here", "there"), [(HERE, THERE), (HERE6, THERE6)], ids=["ipv4", "ipv6"])
# Long enough to apply the rules and open connections on a busy machine.
AHEAD = 12
NETWORKS = {"resolvers": [], "time_servers": [], "peer": [THERE, THERE6]}


class Clock:
    """Seconds that are ahead, as an inventory writes them, and waiting for them."""

    def __init__(self, ahead: int = AHEAD) -> None:
        self._end = int(time.time()) + ahead
        self.text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._end))

    def wait(self) -> None:
        while time.time() < self._end:
            time.sleep(self._end - time.time() + 0.01)


def grant(*ports: str, **options: Any) -> dict[str, Any]:
    return {"service": {"protocol": "tcp", "ports": list(ports)}, "to": "peer", **options}


def apply(
    link: Link, allow: list[dict[str, Any]], groups: dict[str, list[str]] | None = None, **variables: Any
) -> dict[str, Any]:
    """Compile a policy for the host ``here`` and have its kernel hold it."""
    given = {"networks": NETWORKS, "addresses": [HERE, HERE6], "allow__here": allow, **variables}
    hostvars = {"here": {f"egress_firewall_{name}": value for name, value in given.items()}}
    policy = compile_policies(hostvars, groups or {})["here"]
    return link.apply(policy["rules"], chains=policy["chains"], live_flows=policy["settings"]["live_flows"])


def leaves(link: Link, name: str) -> bool:
    """Tell whether what is sent here arrives there, soon if at all."""
    link.near(f"send {name}")
    return link.far(f"receive {name} 2") == "got"


def can_begin(link: Link, there: str, port: int) -> bool:
    dial = f"import socket; socket.create_connection(('{there}', {port}), timeout=1)"
    return link.here.run([sys.executable, "-c", dial]).code == 0


@FAMILIES
def test_a_grant_ends_with_its_connections_and_nothing_else_does(link: Link, here: str, there: str) -> None:
    clock, later = Clock(), Clock(AHEAD + 3600)
    allow = [
        grant("7000-7299", expires=clock.text),
        grant("7100"),
        grant("7200", expires=later.text),
        grant("7201", limit={"rate": "1/hour", "burst": 1}),
    ]
    apply(link, allow)
    for port in (7000, 7100, 7200, 7201):
        link.connect(str(port), there, port)
    # The peer's port is one that the grant is about, but the connection began there.
    link.connect("in", here, 5432, source_port=7050)
    assert all(link.lives(name) for name in ("7000", "7100", "7200", "7201", "in"))
    assert apply(link, allow)["changed"] is False  # and nothing is prolonged
    assert can_begin(link, there, 7000)
    clock.wait()
    assert not leaves(link, "7000")
    assert not can_begin(link, there, 7000)
    assert all(link.lives(name) for name in ("7100", "7200", "7201", "in"))
    apply(link, allow)  # now without what has expired
    assert not leaves(link, "7000")
    assert all(link.lives(name) for name in ("7100", "7200", "7201", "in"))


@FAMILIES
def test_a_waiver_ends_with_its_connections(link: Link, here: str, there: str) -> None:
    clock, later = Clock(), Clock(AHEAD + 3600)
    forbid = {"name": "f", **grant("7000-7299"), "to": "any"}
    waivers = [
        {"forbid": "here/f", "reason": "test", "owner": "test", **options}
        for options in (
            grant("7000-7100", expires=clock.text),
            grant("7100", expires=later.text),
            grant("7299", expires=later.text),
        )
    ]
    apply(link, [grant("7000-7200")], forbid__here=[forbid], waivers__here=waivers)
    for port in (7000, 7100):
        link.connect(str(port), there, port)
    link.connect("in", here, 5432, source_port=7050)
    for name, port in (("forbidden", 7200), ("not granted", 7299)):
        link.far(f"listen {name.split()[0]} {there} {port}")
        assert not can_begin(link, there, port)
    assert all(link.lives(name) for name in ("7000", "7100", "in"))
    clock.wait()
    assert not leaves(link, "7000")
    assert not can_begin(link, there, 7000)
    assert all(link.lives(name) for name in ("7100", "in"))
    assert can_begin(link, there, 7100)


def test_a_grant_to_somebody_else_does_not_save_a_connection(link: Link) -> None:
    clock = Clock()
    apply(link, [grant("7000-7001", expires=clock.text), grant("7000", user="nobody"), grant("7001", user="root")])
    link.connect("nobody's", THERE, 7000)
    link.connect("root's", THERE, 7001)
    assert link.lives("nobody's")
    clock.wait()
    assert not leaves(link, "nobody's")
    assert link.lives("root's")


def test_flows_are_kept_on_request(link: Link) -> None:
    clock = Clock()
    apply(link, [grant("7000", expires=clock.text)], live_flows="keep")
    link.connect("out", THERE, 7000)
    clock.wait()
    assert link.lives("out")
    assert not can_begin(link, THERE, 7000)


def test_zones_of_host_and_controller_make_no_difference(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        clock = Clock()
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        apply(link, [grant("7000", expires=clock.text), grant("7001", expires=Clock(3600).text)])
        link.connect("soon", THERE, 7000)
        link.connect("later", THERE, 7001)
        assert link.lives("soon")
        clock.wait()
        assert not leaves(link, "soon")
        assert link.lives("later")
    finally:
        monkeypatch.undo()
        time.tzset()
