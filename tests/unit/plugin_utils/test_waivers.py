# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""What waivers and expired grants make of a policy: its report, its notices, its rules."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.plugin_utils.sites import changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError

SOON, LATER, PAST = "2026-07-01T00:00:00Z", "2026-12-31T00:00:00Z", "2026-05-31T23:59:59Z"


def waiver(**options: Any) -> dict[str, Any]:
    given = {"forbid": "web/smtp", "service": "smtp", "to": "relays", "reason": "why", "owner": "me", "expires": SOON}
    return {**given, **options}


def compiled(host: str, **variables: Any) -> dict[str, Any]:
    policy: dict[str, Any] = changed("all", {f"egress_firewall_{name}": value for name, value in variables.items()})[
        host
    ]
    return policy


SMTP = [{"service": "smtp", "to": "relays"}]


def shown(rules: list[dict[str, Any]], chain: str) -> list[str]:
    """Return the rules of a chain that are not always there, as words."""
    parts = (
        [
            rule["name"],
            rule["action"],
            rule.get("target", ""),
            *rule.get("destination_ports", []),
            rule.get("expires", ""),
        ]
        for rule in rules
        if rule["chain"] == chain and not rule["name"].startswith(("always/", "base/", "web/postgresql", "web/mysql"))
    )
    return [" ".join(word for word in words if word) for words in parts]


def test_a_waiver_is_a_way_out_of_its_forbid_and_live_flows_end_with_it() -> None:
    policy = compiled("web1", allow__web1=SMTP, waivers__web1=[waiver()])
    assert shown(policy["rules"], "output") == [
        f"until/waiver/web1/smtp accept 25 {SOON}",
        "after/waiver/web1/smtp drop 25",
        "forbid/web/smtp jump forbid_web_smtp 25",
        "web1/smtp accept 25",
    ]
    assert shown(policy["rules"], "forbid_web_smtp") == [f"waiver/web1/smtp return 25 {SOON}", "forbid/web/smtp drop"]
    assert policy["waivers"] == [
        {
            "origin": "web1/smtp",
            "forbid": "web/smtp",
            "service": "smtp",
            "to": ["relays"],
            "reason": "why",
            "owner": "me",
            "expires": SOON,
        }
    ]
    assert policy["notices"] == []
    assert compiled("web2")["waivers"] == []


def test_without_ending_live_flows_there_is_only_the_way_out() -> None:
    policy = compiled("web1", allow__web=SMTP, waivers__web=[waiver()], live_flows="keep")
    assert shown(policy["rules"], "output") == ["forbid/web/smtp jump forbid_web_smtp 25", "web/smtp accept 25"]


def test_a_waiver_exempts_from_one_forbid_only() -> None:
    other = [{"service": "smtp", "to": "203.0.113.0/24"}]
    with pytest.raises(PolicyError, match="'web1/smtp' to relays, as the forbid 'web1/smtp' beats it"):
        compiled("web1", allow__web1=SMTP, waivers__web1=[waiver()], forbid__web1=other)
    both = [waiver(), waiver(forbid="web1/smtp", expires=LATER)]
    policy = compiled("web1", allow__web1=SMTP, waivers__web1=both, forbid__web1=other)
    assert [item["origin"] for item in policy["waivers"]] == ["web1/smtp/relays", "web1/smtp/relays/2"]
    assert shown(policy["rules"], "forbid_web1_smtp") == [
        f"waiver/web1/smtp/relays/2 return 25 {LATER}",
        "forbid/web1/smtp drop",
    ]


def test_a_waiver_is_narrowed_to_its_forbid() -> None:
    policy = compiled("web1", allow__web=SMTP, waivers__web=[waiver(service="any", to="any")])
    rule = next(rule for rule in policy["rules"] if rule["name"] == "waiver/web/any")
    assert (rule["protocol"], rule["destination_ports"]) == ("tcp", ["25"])


def test_chains_of_two_forbids_never_share_a_name() -> None:
    forbids = [{"name": name, "service": "ssh"} for name in ("a-rather-long-name", "a-rather-long-game")]
    waivers = [waiver(forbid=f"web/{forbid['name']}", service="ssh") for forbid in forbids]
    policy = compiled("web1", forbid__web=forbids, waivers__web=waivers, allow__web=[{"service": "ssh", "to": "any"}])
    jumps = {
        rule["name"]: rule["target"]
        for rule in policy["rules"]
        if rule["action"] == "jump" and rule["chain"] == "output" and rule["name"].startswith("forbid/")
    }
    assert len(jumps) == len(set(jumps.values())) == 2


# variables | notices of web1
NOTICES = [
    ({"waivers__web": [waiver(expires=PAST)]}, [f"the waiver web/smtp of the forbid web/smtp expired at {PAST}"]),
    ({"waivers__web": [waiver(expires=PAST, forbid="gone")]}, [f"the waiver web/smtp of the forbid gone expired at {PAST}"]),
    ({"waivers__web": [waiver()]}, ["the waiver web/smtp lets nothing pass: nothing that it exempts is granted and not forbidden otherwise"]),
    ({"waivers__web": [waiver()], "allow__web": SMTP}, []),
    (
        {"waivers__web": [waiver()], "allow__web": [{"service": "any", "to": "any"}], "forbid__web1": [{"service": "any", "to": "relays"}]},
        ["the waiver web/smtp lets nothing pass: nothing that it exempts is granted and not forbidden otherwise"],
    ),
    ({"allow__web": [{"service": "ssh", "to": "any", "expires": PAST}]}, [f"the grant web/ssh expired at {PAST}"]),
    ({"allow__web": [{"service": "ssh", "to": "any", "expires": "2026-06-01T00:00:00Z"}]}, ["the grant web/ssh expired at 2026-06-01T00:00:00Z"]),
    ({"allow__web": [{"service": "ssh", "to": "any", "expires": "2026-06-01T00:00:01Z"}]}, []),
    # What has expired contradicts nothing.
    ({"allow__web": [{**SMTP[0], "expires": PAST}]}, [f"the grant web/smtp expired at {PAST}"]),
    ({"profiles": {"web": {"forbids": []}}}, ["the inventory replaces the forbids of the shipped profile web"]),
    ({"profiles": {"web": {"groups": ["mail"]}}, "waivers__mail": [waiver(service=name) for name in ("smtp",)]}, []),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "expected"), NOTICES)
def test_notices(variables: dict[str, Any], expected: list[str]) -> None:
    notices = compiled("web1", **variables)["notices"]
    assert [notice for notice in notices if "changes nothing" not in notice] == expected


def test_what_has_expired_leaves_no_rule() -> None:
    expired = [{"service": "ssh", "to": "any", "expires": PAST}]
    assert (
        compiled("web1", allow__web=expired, waivers__web=[waiver(expires=PAST)])["rules"] == compiled("web1")["rules"]
    )


def test_a_contradiction_tells_of_the_waiver_that_expired() -> None:
    with pytest.raises(
        PolicyError, match=rf"beats it, and the waiver 'web/smtp' expired at {PAST}\. .* exempt it for a while"
    ):
        compiled("web1", allow__web=SMTP, waivers__web=[waiver(expires=PAST)])


def test_what_a_contradiction_offers_mends_it() -> None:
    both = {"profiles": {"web": {"groups": ["mail"]}}}
    variables: dict[str, Any] = {}
    for _grant in ("smtp", "…"):
        try:
            policy = compiled("mail1", **both, **variables)
        except PolicyError as error:
            name, _colon, value = error.mend.partition("egress_firewall_")[2].partition(": ")
            variables[name] = [*variables.get(name, []), *yaml.safe_load(value)]
    assert {"mail/smtp", "mail/submission"} <= {grant["origin"] for grant in policy["grants"]}
    assert [item["forbid"] for item in policy["waivers"]] == ["web/smtp"]


# days that are allowed | expires | whether it is accepted, on 1 June 2026
BOUNDS = [
    (None, "2027-06-02T00:00:00Z", True),
    (None, "2027-06-02T00:00:01Z", False),
    (30, "2026-07-01T00:00:00Z", True),
    (30, "2026-07-01T00:00:01Z", False),
    (1000, "2029-01-01T00:00:00Z", True),
    ("30", "2026-07-02T00:00:00Z", False),
]


@pytest.mark.parametrize(("days", "expires", "accepted"), BOUNDS)
def test_how_far_ahead_a_waiver_may_expire(days: object, expires: str, accepted: bool) -> None:
    variables = {"waivers__web": [waiver(expires=expires)], **({} if days is None else {"waiver_days": days})}
    if accepted:
        compiled("web1", **variables)
        return
    with pytest.raises(PolicyError, match="days ahead, and a waiver is not for ever"):
        compiled("web1", **variables)


# grants beside one of tcp/22 that expires soon | rules about live flows, and whether some are judged anew
ENDING = [
    ([], [f"until/web/ssh accept 22 {SOON}", "after/web/ssh drop 22"], []),
    ([{"service": "any", "to": "any"}], [], []),
    (
        [{"service": "any", "to": "relays"}],
        [f"until/web/ssh accept 22 {SOON}", "after/web/ssh jump expired 22"],
        ["web/ssh accept 22 " + SOON, "web/any accept"],
    ),
    (
        [{"service": "any", "to": "any", "user": "root"}],
        [f"until/web/ssh accept 22 {SOON}", "after/web/ssh jump expired 22"],
        ["web/ssh accept 22 " + SOON, "web/any accept"],
    ),
    ([{"service": "any", "to": "any", "limit": "5/second"}], [], []),
    ([{"service": "https", "to": "any"}], [f"until/web/ssh accept 22 {SOON}", "after/web/ssh drop 22"], []),
    (
        [{"service": "https", "to": "any", "expires": LATER}],
        [
            f"until/web/ssh accept 22 {SOON}",
            "after/web/ssh drop 22",
            f"until/web/https accept 443 {LATER}",
            "after/web/https drop 443",
        ],
        [],
    ),
]


@pytest.mark.parametrize(("others", "rules", "anew"), ENDING)
def test_live_flows_of_a_grant_that_expires(others: list[dict[str, Any]], rules: list[str], anew: list[str]) -> None:
    policy = compiled("web1", allow__web=[{"service": "ssh", "to": "any", "expires": SOON}, *others])
    found = shown(policy["rules"], "output")
    assert [rule for rule in found if rule.startswith(("until/", "after/"))] == rules
    assert shown(policy["rules"], "expired") == anew
    names = [rule["name"] for rule in policy["rules"] if rule["chain"] == "output"]
    assert all(names.index(rule.split()[0]) < names.index("always/established") for rule in rules)


def test_dhcp_before_an_address_expires_with_its_grant() -> None:
    grants = [
        {"service": "dhcp", "to": "any", "interface": "eth0", "expires": SOON},
        {"service": "dhcp", "to": "any", "interface": "eth1"},
    ]
    rules = {rule["name"]: rule for rule in compiled("web1", allow__web=grants)["rules"]}
    assert rules[f"always/unspecified-source-dhcp/{SOON}"]["expires"] == SOON
    assert rules[f"always/unspecified-source-dhcp/{SOON}"]["out_interface"] == ["eth0"]
    assert rules["always/unspecified-source-dhcp"]["out_interface"] == ["eth1"]


# service on the spot | its name in an origin | options of the rules
INLINE = [
    ({"protocol": "tcp", "ports": ["6000-6010"]}, "tcp-6000-6010", [("tcp", ["6000-6010"])]),
    ({"protocol": "tcp", "ports": [25, 587]}, "tcp-25+587", [("tcp", ["25", "587"])]),
    ({"protocol": "esp"}, "esp", [("esp", None)]),
    ({"protocol": 99}, "99", [("99", None)]),
    ({"protocol": "any"}, "any", [(None, None)]),
    ({"protocol": ["tcp", "udp"], "ports": [135]}, "tcp+udp-135", [("tcp", ["135"]), ("udp", ["135"])]),
]


@pytest.mark.parametrize(("service", "name", "rules"), INLINE)
def test_services_on_the_spot(service: dict[str, Any], name: str, rules: list[tuple[Any, Any]]) -> None:
    forbid = {"service": service, "to": "198.51.100.0/24", "except": "resolvers"}
    policy = compiled("ns1", forbid__ns1=[forbid], allow__ns1=[{"service": service, "to": "203.0.113.0/24"}])
    assert [item["origin"] for item in policy["forbids"]] == [f"ns1/{name}"]
    for prefix in ("forbid/", ""):
        found = [r for r in policy["rules"] if r["name"].startswith(f"{prefix}ns1/")]
        assert [(r.get("protocol"), r.get("destination_ports")) for r in found] == rules


def test_groups_with_reserved_names_cannot_pose_as_waivers() -> None:
    grants = [{"service": "ssh", "to": to, "expires": SOON} for to in ("any", "relays")]
    variables = {
        "egress_firewall_forbid__web1": ["ssh"],
        "egress_firewall_allow__waiver": grants,
        "egress_firewall_waivers__ssh": [waiver(forbid="web1/ssh", service="any", to=to) for to in ("any", "relays")],
    }
    policy = changed("all", variables, {"waiver": ["web1"], "ssh": ["web1"]})["web1"]
    names = [rule["name"] for rule in policy["rules"] if rule["chain"] == "output"]
    assert {"until/waiver/ssh/any/any", "until/grant/waiver/ssh/any", "grant/waiver/ssh/any"} <= set(names)
