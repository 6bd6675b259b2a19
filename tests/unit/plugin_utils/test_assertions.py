# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assertions: what is read, what is proven, and what a refutation tells."""

from __future__ import annotations

from typing import Any

import pytest
from unit.plugin_utils.sites import changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError

VARIABLE = "egress_firewall_assertions"
UNTIL = "2099-01-01T00:00:00Z"


def says(line: str, **more: Any) -> dict[str, Any]:
    """Return the assertion of a line like ``group:web internet smtp denied``."""
    source, to, service, expect = line.split()
    return {"from": source, "to": to, "service": service, "expect": expect, **more}


def prove(*assertions: Any, **variables: Any) -> None:
    changed("all", {VARIABLE: list(assertions), **variables})


def refuted(*assertions: Any, **variables: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        prove(*assertions, **variables)
    return str(caught.value)


ALLOW = "egress_firewall_allow__web"
FORBID = "egress_firewall_forbid__web"
INPUT = "egress_firewall_input"
ACCEPT = "egress_firewall_accept__database"
POSTGRESQL = {"service": "postgresql", "from": "group:web"}
# what holds for the small site, with what its inventory adds
HOLDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (says("group:web internet smtp denied"), {}),
    (says("group:web any smtp denied"), {}),
    (says("host:mail1 relays smtp allowed"), {}),
    (says("group:web databases postgresql allowed"), {}),
    (says("group:web any postgresql denied", **{"except": "databases"}), {}),
    (says("group:web databases http denied", **{"except": "group:database"}) | {"to": ["databases", "relays"]}, {}),
    (says("198.51.100.10/31 internet ssh denied"), {}),
    (says("group:web resolvers dns allowed"), {}),
    (says("internet group:web ssh allowed"), {}),
    (says("resolvers group:web ssh allowed"), {"egress_firewall_allow__ns1": [{"service": "ssh", "to": "any"}]}),
    ({"from": "group:web", "to": "any", "protocol": "tcp", "ports": [25], "expect": "denied"}, {}),
    (says("group:web any ping allowed"), {}),
    # all types of ICMP are 256, and not as many as there are ports
    (
        {"from": "group:web", "to": "192.0.2.0/24", "protocol": "icmp", "expect": "allowed"},
        {ALLOW: [{"service": {"protocol": "icmp", "icmp_types": list(range(256))}, "to": "192.0.2.0/24"}]},
    ),
    # root alone is granted the metadata of a cloud
    (
        says("group:web cloud_metadata http denied", user="www-data"),
        {"egress_firewall_profiles": {"cloud": {"groups": ["web"]}}, ALLOW: [{"service": "http", "to": "internet"}]},
    ),
    (
        says("group:web cloud_metadata cloud-metadata allowed", user="root"),
        {"egress_firewall_profiles": {"cloud": {"groups": ["web"]}}},
    ),
    # a grant bound to a user is not one to all
    (says("group:web any ssh allowed", user="backup"), {ALLOW: [{"service": "ssh", "to": "any", "user": "backup"}]}),
    (says("group:web any ssh denied", user="www"), {ALLOW: [{"service": "ssh", "to": "any", "user": "backup"}]}),
    (
        says("group:web any ssh allowed", interface="eth1"),
        {ALLOW: [{"service": "ssh", "to": "any", "interface": "eth1"}]},
    ),
    # forbids beat grants, whoever gives them
    (says("group:web 203.0.113.0/24 ssh denied"), {ALLOW: [{"service": "any", "to": "any"}], FORBID: ["ssh"]}),
    # two halves make a whole
    (
        says("group:web 0.0.0.0/0 ssh allowed"),
        {ALLOW: [{"service": "ssh", "to": "0.0.0.0/1"}, {"service": "ssh", "to": "128.0.0.0/1"}]},
    ),
    # networks are meant as the host that sends knows them
    (
        says("group:web resolvers dns allowed"),
        {"egress_firewall_networks__web_eu": {"resolvers": ["192.0.2.53"]}},
    ),
    # where input is closed, what is accepted comes in, from hosts as they are known, and nothing else
    (says("group:web group:database postgresql allowed"), {INPUT: "closed", ACCEPT: [POSTGRESQL]}),
    (says("group:web group:database postgresql denied"), {INPUT: "closed"}),
    (says("internet any ssh denied"), {INPUT: "closed", ACCEPT: [POSTGRESQL]}),
    (says("host:ns1 group:database postgresql denied"), {INPUT: "closed", ACCEPT: [POSTGRESQL]}),
    (says("relays group:database ssh allowed"), {INPUT: "closed", ACCEPT: [{"service": "ssh", "from": "relays"}]}),
    (
        says("group:web group:database ssh denied"),
        {INPUT: "closed", ALLOW: [{"service": "ssh", "to": "any"}], ACCEPT: [{"service": "ssh", "from": "relays"}]},
    ),
    # what goes to the host itself leaves nothing
    (says("group:web group:web ssh denied"), {}),
]


@pytest.mark.parametrize(("assertion", "variables"), HOLDS, ids=str)
def test_holds(assertion: dict[str, Any], variables: dict[str, Any]) -> None:
    prove(assertion, **variables)


# what does not hold, with what the inventory adds, and words of the message
BROKEN: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (
        says("group:web databases postgresql denied"),
        {},
        [
            "web1 → db1 (198.51.100.13) tcp port 5432 is accepted by the rule 'web/postgresql' in output of host web1",
            "from the grant 'web/postgresql' in shipped profiles.web.grants[0]",
            "the same holds for 1 more",
            "Change what lets it pass, or the assertion",
        ],
    ),
    (
        says("group:web any ssh denied"),
        {ALLOW: [{"service": "ssh", "to": "203.0.113.7"}]},
        ["web1 → 203.0.113.7 tcp port 22", "from the grant 'web/ssh' in egress_firewall_allow__web[0]"],
    ),
    (
        says("group:web cloud_metadata http denied", user="www-data"),
        {ALLOW: [{"service": "http", "to": "any"}]},
        ["tcp port 80", "from the grant 'web/http' in egress_firewall_allow__web[0]"],
    ),
    (says("group:web any ssh allowed"), {}, ["dropped by the default of output of host web1", "stops it"]),
    (
        says("group:web any smtp allowed"),
        {},
        ["tcp port 25 is dropped by the rule 'forbid/web/smtp'", "from the forbid 'web/smtp'"],
    ),
    # what arrives where input is closed needs the accept
    (
        says("group:web group:database postgresql allowed"),
        {INPUT: "closed"},
        ["web1 → db1", "tcp port 5432 is dropped by the default of input of host db1", "Change what stops it"],
    ),
    (
        says("group:web group:database postgresql allowed"),
        {INPUT: "closed", ACCEPT: [{"service": "postgresql", "from": "host:web1"}]},
        ["web2 → db1 (198.51.100.13) tcp port 5432 is dropped by the default of input of host db1"],
    ),
    (
        says("group:web group:database postgresql allowed"),
        {INPUT: "closed", ACCEPT: [{**POSTGRESQL, "expires": UNTIL}]},
        ["is dropped by the default of input of host db1"],
    ),
    (
        says("relays group:database ssh denied"),
        {INPUT: "closed", ACCEPT: [{"service": "ssh", "from": "any"}]},
        ["by the rule 'accept/database/ssh' in input of host db1, from the accept 'database/ssh' in " + ACCEPT + "[0]"],
    ),
    # all but one address is not all
    (
        says("group:web 0.0.0.0/0 ssh allowed"),
        {ALLOW: [{"service": "ssh", "to": "0.0.0.0/1"}, {"service": "ssh", "to": ["128.0.0.0/2", "192.0.0.1/32"]}]},
        ["web1 → 192.0."],
    ),
    (says("group:web any ssh denied"), {ALLOW: [{"service": "ssh", "to": "any", "user": "bob"}]}, ["port 22 user bob"]),
    (
        says("group:web any ssh allowed"),
        {ALLOW: [{"service": "ssh", "to": "any", "user": "bob"}]},
        ["dropped by the def"],
    ),
    # a limit may or may not let a packet pass: it breaks both
    (says("group:web any ssh allowed"), {ALLOW: [{"service": "ssh", "to": "any", "limit": "1/second"}]}, ["dropped"]),
    (says("group:web any ssh denied"), {ALLOW: [{"service": "ssh", "to": "any", "limit": "1/second"}]}, ["accepted"]),
    # so does what expires
    (
        says("group:web any ssh allowed"),
        {ALLOW: [{"service": "ssh", "to": "any", "expires": UNTIL}]},
        ["dropped"],
    ),
    (
        says("group:web any ssh denied"),
        {ALLOW: [{"service": "ssh", "to": "any", "expires": UNTIL}]},
        ["accepted"],
    ),
    (
        says("internet group:web ssh denied"),
        {},
        ["web1 (198.51.100.11) tcp port 22 is accepted by the default of input"],
    ),
    (says("group:office any smtp denied"), {}, ["printer1 →", "as the host that sends it has no rules of ours"]),
    (
        says("group:web internet ssh denied", name="no shell from the web"),
        {ALLOW: [{"service": "ssh", "to": "internet"}]},
        ['"no shell from the web" does not hold'],
    ),
    # one family is enough to break it
    (says("group:web any ssh denied"), {ALLOW: [{"service": "ssh", "to": "2001:db8:9::/48"}]}, ["→ 2001:db8:9::1 tcp"]),
    (says("group:web any dns denied"), {}, ["→ ns1 (198.51.100.53) udp port 53", "base/dns"]),
]


@pytest.mark.parametrize(("assertion", "variables", "words"), BROKEN, ids=str)
def test_broken(assertion: dict[str, Any], variables: dict[str, Any], words: list[str]) -> None:
    message = refuted(assertion, **variables)
    assert message.startswith(f"{VARIABLE}[0]: ")
    assert [word for word in words if word not in message] == []


def test_the_first_of_several_is_told_and_the_others_are_counted() -> None:
    message = refuted(
        says("group:web any smtp denied"), says("group:web any ssh allowed"), says("group:web any ftp allowed")
    )
    assert message.startswith(f"{VARIABLE}[1]: ")
    assert "1 more of the assertions do not hold" in message


def test_a_host_that_is_to_lose_its_rules_stops_nothing() -> None:
    assert "has no rules of ours" in refuted(says("group:web any smtp denied"), egress_firewall_state="absent")


GOOD = says("group:web internet smtp denied")
# what is wrong, where the message says it is, and how it begins and what it offers
BAD: list[tuple[Any, str, str]] = [
    ("x", "", "'x' stands where a list belongs"),
    ({}, "", "a mapping stands where a list belongs"),
    ([[]], "[0]", "a list stands where a mapping belongs"),
    (["smtp"], "[0]", "'smtp' stands where a mapping belongs"),
    ([{}], "[0]", "the assertion has no 'from'"),
    ([{**GOOD, "frm": 1}], "[0]", "unknown key 'frm'. Did you mean 'from'?"),
    ([{k: v for k, v in GOOD.items() if k != "to"}], "[0]", "the assertion has no 'to'"),
    ([{k: v for k, v in GOOD.items() if k != "expect"}], "[0]", "the assertion has no 'expect'"),
    ([{k: v for k, v in GOOD.items() if k != "service"}], "[0]", "it names neither service nor protocol"),
    ([{**GOOD, "expect": "deny"}], "[0].expect", "'deny' is not possible here. Did you mean 'denied'?"),
    ([{**GOOD, "expect": False}], "[0].expect", "false is not possible here"),
    ([{**GOOD, "from": "group:wbe"}], "[0].from", "unknown group 'wbe'. Did you mean 'web'?"),
    ([{**GOOD, "from": "web"}], "[0].from", "'web' is a group of the inventory and not a network. Write group:web"),
    ([{**GOOD, "from": []}], "[0].from", "an empty list"),
    ([{**GOOD, "to": "host:web9"}], "[0].to", "unknown host 'web9'"),
    ([{**GOOD, "to": "moon"}], "[0].to", "unknown network 'moon'"),
    ([{**GOOD, "to": ["any", 3]}], "[0].to[1]", "the number 3 stands where text belongs"),
    ([{**GOOD, "except": []}], "[0].except", "an empty list"),
    ([{**GOOD, "service": "smpt"}], "[0].service", "unknown service 'smpt'. Did you mean 'smtp'?"),
    ([{**GOOD, "service": 25}], "[0].service", "the number 25 stands where the name of a service belongs"),
    ([{**GOOD, "protocol": "tcp"}], "[0].protocol", "it stands beside 'service'"),
    ([{"from": "any", "to": "any", "protocol": "tpc", "expect": "denied"}], "[0].protocol", "unknown protocol 'tpc'"),
    (
        [{"from": "any", "to": "any", "protocol": "gre", "ports": 1, "expect": "denied"}],
        "[0].ports",
        "the protocol gre",
    ),
    ([{"from": "any", "to": "any", "protocol": "tcp", "ports": [], "expect": "denied"}], "[0].ports", "an empty list"),
    ([{**GOOD, "user": []}], "[0].user", "an empty list"),
    ([{**GOOD, "user": "a b"}], "[0].user", "'a b'"),
    ([{**GOOD, "interface": "*"}], "[0].interface", "'*'"),
    ([{**GOOD, "name": ""}], "[0].name", "empty text stands where text belongs"),
    ([{**GOOD, "to": "mirrors"}], "[0].to", "the network 'mirrors' is not defined"),
    ([{**GOOD, "to": "group:nobody"}], "[0].to", "the group 'nobody' has no hosts"),
    ([{**GOOD, "to": "group:office"}], "[0].to", "'group:office' names the host printer1, which has no address"),
    ([{**GOOD, "from": "group:nobody"}], "[0]", "no packet that a host of the inventory sends or receives is meant"),
    ([{**GOOD, "from": "internet"}], "[0]", "no packet that a host of the inventory sends or receives is meant"),
    ([{**GOOD, "from": "host:web1", "to": "host:web1"}], "[0]", "no packet that a host of the inventory sends"),
    (
        [{**GOOD, "to": "2001:db8::/32", "service": {"protocol": "icmp"}}],
        "[0]",
        "no packet that a host of the inventory",
    ),
    ([GOOD, {**GOOD, "expect": None}], "[1].expect", "nothing (null) is not possible here"),
]


@pytest.mark.parametrize(("value", "place", "message"), BAD, ids=[message for _value, _place, message in BAD])
def test_bad_input(value: Any, place: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        changed("all", {VARIABLE: value})
    assert str(caught.value).startswith(f"{VARIABLE}{place}: {message}")


def test_all_hosts_must_show_the_same() -> None:
    with pytest.raises(PolicyError, match="it is for the whole fleet"):
        changed("web", {VARIABLE: [GOOD]})


# grants and forbids of the web servers, and what each notice says after "the "
COVERED: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    (
        {ALLOW: [{"service": "dns", "to": "resolvers"}]},
        ["grant 'web/dns' in egress_firewall_allow__web[0] changes nothing, as it is covered by 'base/dns'"],
    ),
    # the narrow one comes first in the kernel and is superfluous all the same
    (
        {ALLOW: [{"service": "ssh", "to": "203.0.113.0/24"}, {"service": "ssh", "to": "any"}]},
        [
            "grant 'web/ssh/203.0.113.0/24' in egress_firewall_allow__web[0] changes nothing, as it is covered by "
            "'web/ssh/any'"
        ],
    ),
    # only both together cover it
    (
        {
            ALLOW: [
                {"service": "ssh", "to": "0.0.0.0/1"},
                {"service": "ssh", "to": "203.0.113.0/24"},
                {"service": {"protocol": "tcp", "ports": ["20-30"]}, "to": "128.0.0.0/1"},
                {"service": "ssh", "to": "0.0.0.0/0"},
            ]
        },
        [
            "grant 'web/ssh/203.0.113.0/24' in egress_firewall_allow__web[1] changes nothing, as it is covered by "
            "'web/tcp-20-30'",
            "grant 'web/ssh/0.0.0.0/0' in egress_firewall_allow__web[3] changes nothing, as it is covered by "
            "'web/ssh/0.0.0.0/1' and 'web/tcp-20-30'",
        ],
    ),
    # with a limit, for one user, or for a while is less than all
    ({ALLOW: [{"service": "ssh", "to": "any", "limit": "1/second"}, {"service": "ssh", "to": "203.0.113.9"}]}, []),
    ({ALLOW: [{"service": "ssh", "to": "any", "user": "bob"}, {"service": "ssh", "to": "203.0.113.9"}]}, []),
    (
        {ALLOW: [{"service": "ssh", "to": "any", "expires": UNTIL}, {"service": "ssh", "to": "203.0.113.9"}]},
        [],
    ),
    (
        {ALLOW: [{"service": "ssh", "to": "any", "expires": UNTIL}, {"service": "ssh", "to": "any"}]},
        ["grant 'web/ssh/any' in egress_firewall_allow__web[0] changes nothing, as it is covered by 'web/ssh/any/2'"],
    ),
    (
        {FORBID: ["smtp"]},
        [
            "forbid 'web/smtp/any/2' in egress_firewall_forbid__web[0] changes nothing, as it is covered by "
            "'web/smtp/any'"
        ],
    ),
    # what every host needs comes before forbids
    (
        {FORBID: [{"service": {"protocol": "igmp"}, "name": "igmp"}]},
        ["forbid 'web/igmp' in egress_firewall_forbid__web[0] changes nothing, as it is covered by 'always/igmp'"],
    ),
]


@pytest.mark.parametrize(("variables", "expected"), COVERED, ids=str)
def test_notices(variables: dict[str, Any], expected: list[str]) -> None:
    found = [n.removeprefix("the ") for n in changed("all", variables)["web1"]["notices"] if "changes nothing" in n]
    assert found == expected
