# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch that forwards multicast only to who has said that he wants it: neighbours must still find each other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from netns.namespace import Namespace, namespace

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge
from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

ADDRESSES = {"one": ("198.51.100.1", "2001:db8:1::1"), "two": ("198.51.100.2", "2001:db8:1::2")}
# The group in which neighbours ask for the second host's address, and an IPv4 group that it is a member of.
SOLICITED, GROUP = "ff02::1:ff00:2", "233.252.0.1"
PATIENCE = 30.0  # seconds: reports are sent again within two, and what is not reported is forgotten after six
SETTLED = (
    15.0  # seconds, after which the switch has surely ceased to flood: it does so ten seconds after its first query
)


@dataclass(frozen=True)
class Site:
    """Two hosts behind one switch; the switch asks by itself who wants what."""

    switch: Namespace
    one: Namespace
    two: Namespace

    def known(self, group: str, port: str = "two") -> bool:
        """Tell whether the switch knows that a group is wanted behind a port."""
        entries = json.loads(self.switch.must("bridge -j mdb show"))[0]["mdb"]
        return any((entry["grp"], entry["port"]) == (group, port) for entry in entries)

    def becomes(self, true: Callable[[], bool]) -> bool:
        """Tell whether something becomes true within the time that it takes at most."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def finds(self) -> bool:
        """Tell whether the first host finds the second one anew."""
        self.one.must("ip neigh flush dev wire")
        return self.one.run(["ping", "-c", "1", "-W", "3", ADDRESSES["two"][1]]).code == 0


def apply(where: Namespace, name: str, mode: str, *without: str) -> None:
    """Have a host hold what its policy says, without rules of these names."""
    given: dict[str, Any] = {
        "networks": {"resolvers": [], "time_servers": []},
        "addresses": list(ADDRESSES[name]),
        "input": mode,
    }
    policy = compile_policies({name: {f"egress_firewall_{key}": value for key, value in given.items()}}, {})[name]
    rules = [rule for rule in policy["rules"] if rule["name"] not in without]
    converge(Nftables(where.run), decode(rules, policy["chains"]), check=False, midstream=False)


@pytest.fixture
def site() -> Iterator[Site]:
    """Return two hosts whose links are down still, behind a switch that looks at who asks for what."""
    with ExitStack() as stack:
        made = Site(*(stack.enter_context(namespace()) for _ in range(3)))
        options = "mcast_snooping 1 mcast_querier 1 mcast_query_interval 200 mcast_query_response_interval 100"
        options += " mcast_startup_query_interval 100 mcast_membership_interval 600 mcast_mld_version 2"
        made.switch.must(f"ip link add switch type bridge {options}")
        made.switch.must("ip link set switch up")
        for name, host in (("one", made.one), ("two", made.two)):
            made.switch.must(f"ip link add {name} type veth peer name wire netns {host.name}")
            made.switch.must(f"ip link set {name} master switch up")
            host.must("ip link set lo up")
        yield made


def connect(site: Site) -> None:
    """Plug the hosts in."""
    for name, host in (("one", site.one), ("two", site.two)):
        host.must("ip link set wire up")
        host.must(f"ip address add {ADDRESSES[name][0]}/24 dev wire")
        host.must(f"ip address add {ADDRESSES[name][1]}/64 dev wire nodad")
        host.must(f"ip address add {GROUP}/32 dev wire autojoin")


@pytest.mark.parametrize("mode", ["guard", "closed"])
def test_row9_reports_leave_and_neighbours_are_found(site: Site, mode: str) -> None:
    apply(site.one, "one", mode)
    apply(site.two, "two", mode)
    connect(site)
    assert site.becomes(lambda: site.known(SOLICITED) and site.known(GROUP))
    time.sleep(SETTLED)
    # What nobody has answered a query about is forgotten by now, and not flooded any more.
    assert site.known(SOLICITED)
    assert site.known(GROUP)
    assert site.finds()
    apply(site.two, "two", mode, "always/mld", "always/igmp")
    assert site.becomes(lambda: not site.known(SOLICITED) and not site.known(GROUP))
    assert not site.finds()
