# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants, forbids and waivers that expire: the rules against what they mean, packet by packet and as time goes by."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._evaluate import Packet, evaluate
from ansible_collections.palisade.egress.plugins.module_utils._values import format_time
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import Inventory
from ansible_collections.palisade.egress.plugins.plugin_utils._report import policies

NOW = 1_800_000_000
TIMES = (0, 1, 2, 3)
PORTS = (1, 2, 3)
PROTOCOLS = ("tcp", "udp")
USERS = ("7", "8")
PEERS = ("198.51.100.1", "2001:db8::1")

Declared = dict[str, Any]
ALL: Declared = {"service": "any", "to": "any"}


def some(values: tuple[Any, ...]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=len(values), unique=True)


SERVICE = st.one_of(
    st.just("any"),
    st.builds(lambda protocols: {"protocol": protocols}, some(PROTOCOLS)),
    st.builds(lambda protocols, ports: {"protocol": protocols, "ports": ports}, some(PROTOCOLS), some(PORTS)),
)
REACH = st.fixed_dictionaries({"service": SERVICE, "to": st.one_of(st.just("any"), some(PEERS))})
EXPIRES = st.sampled_from(TIMES[1:]).map(lambda seconds: format_time(NOW + seconds))
CONDITIONS = {"expires": EXPIRES, "user": st.sampled_from(USERS), "limit": st.just("1/day")}
SIGNED = {"forbid": st.sampled_from(["0", "1"]), "expires": EXPIRES, "reason": st.just("x"), "owner": st.just("x")}


@st.composite
def declarations(draw: st.DrawFn) -> tuple[list[Declared], list[Declared], list[Declared]]:
    """Draw grants, forbids and waivers from few reaches, so that many meet."""
    reach = st.sampled_from(draw(st.lists(REACH, min_size=1, max_size=3)))

    def declared(most: int, required: dict[str, Any], optional: dict[str, Any]) -> list[Declared]:
        options = st.fixed_dictionaries(required, optional=optional)
        return draw(st.lists(st.builds(lambda r, o: {**r, **o}, reach, options), max_size=most))

    return declared(4, {}, CONDITIONS), declared(2, {}, {}), declared(3, SIGNED, {})


def covers(declared: Declared, packet: Packet, seconds: int) -> bool:
    """Tell whether something declared is about a packet, and counts still."""
    service, to = declared["service"], declared["to"]
    return (
        (service == "any" or packet.protocol in service["protocol"])
        and (service == "any" or packet.destination_port in service.get("ports", PORTS))
        and (to == "any" or PEERS[packet.family == "ipv6"] in to)
        and declared.get("user", packet.uid) == packet.uid
        and ("expires" not in declared or format_time(NOW + seconds) < declared["expires"])
    )


def may_begin(
    grants: list[Declared], forbids: list[Declared], waivers: list[Declared], packet: Packet, at: int
) -> bool:
    return any(covers(grant, packet, at) for grant in grants) and all(
        any(waiver["forbid"] == str(number) and covers(waiver, packet, at) for waiver in waivers)
        for number, forbid in enumerate(forbids)
        if covers(forbid, packet, at)
    )


def compiled(grants: list[Declared], forbids: list[Declared], waivers: list[Declared]) -> dict[str, Any]:
    """Compile them for one host; its grants are defaults, so that forbids may take them whole."""
    variables = {
        "addresses": ["198.51.100.9"],
        "networks": {"resolvers": [], "time_servers": []},
        "profiles": {"base": {"grants": grants}},
        "forbid__here": [{**forbid, "name": str(number)} for number, forbid in enumerate(forbids)],
        "waivers__here": [{**waiver, "forbid": f"here/{waiver['forbid']}"} for waiver in waivers],
    }
    hostvars = {"here": {f"egress_firewall_{name}": value for name, value in variables.items()}}
    return policies(Inventory(hostvars, {}), NOW)["here"]


def packets(seconds: int, **fields: Any) -> list[Packet]:
    return [
        Packet.between(
            "2001:db8::9" if ":" in peer else "198.51.100.9", peer, chain="output", protocol=protocol,
            source_port=50000, destination_port=port, uid=uid, source_type="local", time=NOW + seconds, **fields,
        )
        for peer, protocol, port, uid in product(PEERS, PROTOCOLS, PORTS, USERS)
    ]  # fmt: skip


# One user's grant does not save the other's flow.
@example(([{**ALL, "expires": format_time(NOW + 1)}, {**ALL, "user": "7"}], [], []))
@given(declarations())
def test_rules_mean_what_was_declared_at_every_time(
    declared: tuple[list[Declared], list[Declared], list[Declared]],
) -> None:
    grants, forbids, waivers = declared
    try:
        policy = compiled(grants, forbids, waivers)
    except PolicyError:
        assume(False)
    ruleset = decode(policy["rules"], policy["chains"])
    for seconds in TIMES:
        news, flows = packets(seconds), packets(seconds, ctstate="established")
        replies = packets(seconds, ctstate="established", ct_direction="reply")
        for new, flow, reply in zip(news, flows, replies, strict=True):
            allowed = may_begin(grants, forbids, waivers, new, seconds)
            verdicts = {verdict.action for verdict in evaluate(ruleset, new).verdicts}
            assert ("accept" in verdicts) is allowed, new
            assert evaluate(ruleset, reply).verdict.action == "accept", reply
            if may_begin(grants, forbids, waivers, new, 0):
                assert (evaluate(ruleset, flow).verdict.action == "accept") is allowed, flow
