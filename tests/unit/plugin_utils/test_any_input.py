# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever YAML can hold, at whatever place: it compiles, or its author reads one error."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from unit.plugin_utils.sites import changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import decode_probes
from ansible_collections.palisade.egress.plugins.plugin_utils._inventory import CONNECTION
from ansible_collections.palisade.egress.plugins.plugin_utils._variables import FLEET, HOST, SUFFIXED

VARIABLES = (*(f"{kind}__web" for kind in SUFFIXED), *FLEET, *HOST)
WORDS = [
    "any",
    "internet",
    "mail",
    "web",
    "web1",
    "group:web",
    "group:nobody",
    "host:db1",
    "host:printer1",
    "resolvers",
    "relays",
    "198.51.100.0/24",
    "::/0",
    "smtp",
    "dns",
    "dhcp",
    "ping",
    "tcp",
    "icmp",
    "icmpv6",
    "echo-request",
    "25",
    "20-30",
    "eth0",
    "root",
    "20/second",
    "2027-01-31T00:00:00Z",
    "off",
    "drop",
    "output",
    "input",
    "audit",
    "base",
    "web/smtp",
    "2026-12-31T00:00:00Z",
    "container_host",
    "reachable",
    "blocked",
    "closed",
    "example.org",
]
KEYS = [
    "service",
    "to",
    "from",
    "interface",
    "user",
    "group",
    "containers",
    "limit",
    "expires",
    "reason",
    "name",
    "except",
    "include",
    "groups",
    "grants",
    "forbid",
    "owner",
    "forbids",
    "accepts",
    "probes",
    "expect",
    "timeout",
    "query",
    "protocol",
    "family",
    "ports",
    "source_ports",
    "icmp_types",
    "rate",
    "burst",
    "per",
    "chains",
    "protocols",
    "resolvers",
    "time_servers",
    "relays",
    "smtp",
    "mail",
    "base",
    "x",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.just(date(2027, 1, 31)),
    st.datetimes(min_value=datetime(1, 1, 2)),
    st.sampled_from(WORDS),
)
YAML = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=12,
)
# Values of about the right shape get further than those of any shape.
WORD = st.sampled_from(WORDS)
NETWORK = st.one_of(WORD, st.lists(st.one_of(WORD, YAML), max_size=3), YAML)
GRANT = st.fixed_dictionaries(
    {"service": st.sampled_from(["https", "dns", "ping", "dhcp", "any"]), "to": NETWORK},
    optional={
        key: st.one_of(WORD, YAML) for key in ("interface", "user", "limit", "expires", "reason", "except", "name")
    },
)
SERVICE = st.fixed_dictionaries(
    {"protocol": st.one_of(st.sampled_from(["tcp", "icmp", "icmpv6", "esp", "any", 47]), YAML)},
    optional={key: st.one_of(st.lists(WORD, max_size=3), YAML) for key in ("ports", "source_ports", "icmp_types")},
)
ON_THE_SPOT = st.fixed_dictionaries(
    {"service": st.one_of(SERVICE, st.just("smtp")), "to": NETWORK}, optional={"except": NETWORK, "expires": WORD}
)
ACCEPT = st.fixed_dictionaries(
    {"service": st.one_of(st.sampled_from(["ssh", "dns", "ping", "dhcp", "any"]), SERVICE), "from": NETWORK},
    optional={key: st.one_of(WORD, YAML) for key in ("interface", "limit", "expires", "reason")},
)
ICMP = st.fixed_dictionaries(
    {}, optional={key: st.one_of(st.lists(st.one_of(WORD, YAML), max_size=3), YAML) for key in ("out", "in")}
)
WAIVER = st.fixed_dictionaries(
    {
        "forbid": st.one_of(st.just("web/smtp"), YAML),
        "service": st.one_of(st.sampled_from(["smtp", "any", "dns"]), SERVICE),
        "to": NETWORK,
        "reason": st.one_of(WORD, YAML),
        "owner": st.one_of(WORD, YAML),
        "expires": st.one_of(st.just("2026-12-31T00:00:00Z"), st.datetimes(timezones=st.timezones()), YAML),
    }
)
PROBE = st.fixed_dictionaries(
    {"service": st.one_of(st.sampled_from(["https", "dns", "ping", "any"]), SERVICE), "to": NETWORK},
    optional={
        "expect": st.one_of(st.sampled_from(["reachable", "blocked"]), YAML),
        "timeout": st.one_of(st.floats(-1, 61), WORD, YAML),
        **{key: st.one_of(WORD, YAML) for key in ("name", "query")},
    },
)
LOG = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.one_of(st.just("20/minute"), YAML),
        "group": st.one_of(st.integers(-1, 65536), YAML),
        "chains": st.one_of(st.lists(st.sampled_from(["output", "input", "forward"])), YAML),
        "protocols": st.one_of(st.booleans(), YAML),
    },
)
SHAPED = st.one_of(
    st.lists(GRANT, max_size=3),
    st.lists(ON_THE_SPOT, max_size=3),
    st.lists(WAIVER, max_size=3),
    st.lists(PROBE, max_size=3),
    st.lists(ACCEPT, max_size=3),
    ICMP,
    st.dictionaries(st.sampled_from(KEYS), NETWORK, max_size=4),
    st.dictionaries(st.sampled_from(KEYS), SERVICE, max_size=3),
    st.dictionaries(
        st.sampled_from(["mail", "web", "base", "x"]),
        st.fixed_dictionaries(
            {},
            optional={
                "groups": st.lists(WORD),
                "grants": st.lists(GRANT),
                "forbids": st.lists(GRANT),
                "accepts": st.lists(ACCEPT),
                "probes": st.lists(PROBE),
            },
        ),
    ),
)

# What ssh may be told, and what it may not.
ARGUMENTS = st.lists(
    st.sampled_from(
        [
            "-J",
            "-o",
            "ProxyJump=",
            "ProxyCommand=",
            "'ssh",
            "-W%h:%p",
            "web1",
            "a@[2001:db8::1]:22",
            ":22",
            ",",
            "'",
            "--",
        ]
    ),
    max_size=8,
).map(" ".join)


@given(st.sampled_from(VARIABLES), st.one_of(YAML, SHAPED), st.sampled_from(["all", "web", "web1"]))
def test_any_value_compiles_or_is_a_policy_error(variable: str, value: Any, target: str) -> None:
    with suppress(PolicyError):
        for policy in changed(target, {f"egress_firewall_{variable}": value}).values():
            assert not policy["probes"] or decode_probes(policy["probes"])


@given(st.lists(ACCEPT, max_size=3), st.sampled_from(["drop", "reject"]), st.sampled_from(["enforce", "audit"]))
def test_any_accept_compiles_where_input_is_closed_or_is_a_policy_error(value: Any, verdict: str, mode: str) -> None:
    closed = {"egress_firewall_input": "closed", "egress_firewall_mode": mode}
    with suppress(PolicyError):
        changed("all", {"egress_firewall_accept__web": value, "egress_firewall_default_verdict": verdict, **closed})


@given(LOG, st.sampled_from(["enforce", "audit"]), st.sampled_from(["all", "web", "web1"]))
def test_any_log_compiles_or_is_a_policy_error(log: Any, mode: str, target: str) -> None:
    with suppress(PolicyError):
        changed(target, {"egress_firewall_log": log, "egress_firewall_mode": mode})


@given(st.sampled_from(CONNECTION), st.one_of(YAML, ARGUMENTS), st.sampled_from(["all", "web", "web1"]))
def test_any_way_to_connect_compiles_or_is_a_policy_error(variable: str, value: Any, target: str) -> None:
    with suppress(PolicyError):
        changed(target, {variable: value})


@given(st.one_of(st.text(), st.integers(), st.none()), st.one_of(st.text(), st.none()))
def test_any_name_of_a_variable_compiles_or_is_a_policy_error(name: Any, suffix: str | None) -> None:
    with suppress(PolicyError):
        changed("all", {name if suffix is None else f"egress_firewall_{suffix}": []})
