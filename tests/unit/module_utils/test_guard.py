# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules under which nobody could log in any more are refused."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._errors import LockoutError
from ansible_collections.palisade.egress.plugins.module_utils._flows import Flow
from ansible_collections.palisade.egress.plugins.module_utils._guard import check_logins
from ansible_collections.palisade.egress.plugins.module_utils._values import parse_network

NOW = 1_800_000_000
DROP = {"default": "drop"}
ESTABLISHED = {"name": "established", "chain": "output", "action": "accept", "ctstate": ["established"]}
SSH = {"name": "ssh", "chain": "input", "action": "accept", "protocol": "tcp", "destination_ports": ["22"]}


def login(source: str = "198.51.100.1", destination: str = "198.51.100.10", port: int = 22) -> Flow:
    family = "ipv6" if ":" in source else "ipv4"
    ends = (parse_network(text)[1][0] for text in (source, destination))
    return Flow(family, "tcp", *ends, 50000, port)


def check(rules: list[dict[str, Any]], chains: dict[str, Any], *logins: Flow) -> None:
    check_logins(decode(rules, chains), logins or (login(),), NOW)


CUT = {
    "answers": ([], {"output": DROP}, "the answer to it would meet a drop by the default of the chain output"),
    "answers by a rule": (
        [{"name": "no ssh", "chain": "output", "action": "reject", "protocol": "tcp", "source_ports": ["22"]},
         ESTABLISHED],
        {},
        "the answer to it would meet a reject by the rule 'no ssh' of the chain output",
    ),
    "answers to what is established already": (
        [{**ESTABLISHED, "ct_direction": "original"}], {"output": DROP}, "the default of the chain output"),
    "what comes in": ([ESTABLISHED], {"output": DROP, "input": DROP}, "it would meet a drop by the default of the"),
    "what comes in from there": (
        [ESTABLISHED, {**SSH, "source": ["198.51.100.2"]}], {"input": DROP}, "from 198.51.100.1 to port 22: it would"),
    "what comes in, as established is not enough": (
        [{**ESTABLISHED, "chain": "input"}], {"input": DROP}, "the default of the chain input"),
    "what comes in, early": (
        [{"name": "no", "chain": "prerouting", "action": "drop", "source": ["198.51.100.0/24"]}], {},
        "the rule 'no' of the chain prerouting"),
    "what has expired": (
        [ESTABLISHED, {**SSH, "expires": "2020-01-01T00:00:00Z"}], {"input": DROP}, "the default of the chain input"),
    "only loopback is open": ([{"name": "lo", "chain": "input", "action": "accept", "in_interface": ["lo"]}],
                              {"input": DROP}, "the default of the chain input"),
}  # fmt: skip


@pytest.mark.parametrize("case", CUT)
def test_what_is_refused(case: str) -> None:
    rules, chains, message = CUT[case]
    with pytest.raises(LockoutError, match=message):
        check(rules, chains)


KEPT: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "no chains": ([], {}),
    "established and ssh": ([ESTABLISHED, SSH], {"output": DROP, "input": DROP}),
    "from there": ([ESTABLISHED, {**SSH, "source": ["198.51.100.0/24"]}], {"output": DROP, "input": DROP}),
    "by an interface that nobody can tell": ([{**SSH, "in_interface": ["eth7"]}], {"input": DROP}),
    "as many as the limit lets through": ([{**SSH, "limit": {"rate": "3/minute"}}], {"input": DROP}),
    "where the way back may fail": (
        [{"name": "rp", "chain": "prerouting", "action": "drop", "reverse_path": "strict"}], {}),
    "until it expires": ([{**SSH, "expires": "2099-01-01T00:00:00Z"}], {"input": DROP}),
    "as early packets are invalid": (
        [{"name": "new", "chain": "prerouting", "action": "drop", "ctstate": ["new"]}], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_what_is_not(case: str) -> None:
    check(*KEPT[case])


def test_each_login_counts() -> None:
    rules, chains = [ESTABLISHED, {**SSH, "family": "ipv4"}], {"input": DROP}
    check(rules, chains, login())
    with pytest.raises(LockoutError, match="from 2001:db8::1 to port 22"):
        check(rules, chains, login(), login("2001:db8::1", "2001:db8::10"))


def test_no_login_is_known() -> None:
    check_logins(decode([], {"input": DROP}), (), NOW)
