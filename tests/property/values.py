# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis strategies for the values of single options, in all their legal spellings."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from ansible_collections.palisade.egress.plugins.module_utils import _options, _values

BASE_CHAINS = ("prerouting", "input", "forward", "output")
FAMILIES = ("ipv4", "ipv6")
BITS = {"ipv4": 32, "ipv6": 128}
# Addresses beside which something begins or ends, and the documentation's own.
LANDMARKS = {
    "ipv4": ["0.0.0.0", "10.0.0.0", "11.0.0.0", "127.255.255.255", "198.51.100.0", "224.0.0.0", "255.255.255.255"],
    "ipv6": ["::", "::1", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::", "ff02::1", "::ffff:0:0"],
}
TEXT = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"\\')
MORE_THAN_A_HANDFUL = 12


Plain = dict[str, Any]


def _is_name(text: str) -> bool:
    return not text.startswith(("#", "palisade/")) and not text.endswith(" #") and " # " not in text


@cache
def names() -> st.SearchStrategy[str]:
    """Return names as people write them, and weird ones."""
    weird = st.text(TEXT, min_size=1, max_size=60).map(str.strip).filter(lambda text: bool(text) and _is_name(text))
    nasty = st.sampled_from(["accept", "0", "-", "} drop", "$(reboot)", "a;b", "{{ x }}", "@set", "x #y", "'", "a b"])
    return st.one_of(st.from_regex(r"[a-z]{1,8}/[a-z0-9-]{1,12}", fullmatch=True), weird, nasty)


@cache
def comments() -> st.SearchStrategy[str]:
    """Return comments that fit beside any of ``names()``."""
    return st.text(TEXT, max_size=60).map(str.strip).filter(lambda text: " # " not in text)


@cache
def own_chain_names() -> st.SearchStrategy[str]:
    """Return names for chains of one's own."""
    usual = st.from_regex(r"[a-z0-9_]{1,20}", fullmatch=True)
    keywords = st.sampled_from(["accept", "drop", "jump", "default", "from_web1", "0", "_", "own", "postrouting"])
    return st.one_of(usual, keywords).filter(lambda name: name not in BASE_CHAINS)


@cache
def networks(family: str) -> st.SearchStrategy[str]:
    """Return addresses and CIDRs of one family."""
    bits = BITS[family]
    landmarks = st.sampled_from([int(ip_network(text).network_address) for text in LANDMARKS[family]])
    lengths = st.one_of(st.just(bits), st.sampled_from([0, 1, 8, bits // 2, bits - 1]), st.integers(0, bits))

    def text(value: int, length: int) -> str:
        return f"{_values.address_text(value >> (bits - length) << (bits - length), family)}/{length}"

    return st.one_of(hosts(family), st.builds(text, st.one_of(landmarks, st.integers(0, 2**bits - 1)), lengths))


@cache
def hosts(family: str) -> st.SearchStrategy[str]:
    """Return single addresses, of very many."""
    return st.integers(0, 2 ** BITS[family] - 1).map(lambda value: _values.address_text(value, family))


@cache
def address_lists(families: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """Return lists that have members of each of these families: a handful, or more."""
    lists = [
        st.one_of(
            st.lists(networks(family), min_size=1, max_size=4),
            st.lists(hosts(family), min_size=MORE_THAN_A_HANDFUL, max_size=MORE_THAN_A_HANDFUL + 2),
        )
        for family in families
    ]
    mixed = st.tuples(st.booleans(), *lists)
    return mixed.map(lambda drawn: [text for part in drawn[1:][:: -1 if drawn[0] else 1] for text in part])


@cache
def port_lists() -> st.SearchStrategy[list[Any]]:
    """Return lists of ports and ranges."""
    number = st.one_of(st.sampled_from([0, 1, 22, 25, 53, 80, 443, 1023, 1024, 65534, 65535]), st.integers(0, 65535))
    spread = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    return st.lists(st.one_of(number, number.map(str), spread), min_size=1, max_size=12)


@cache
def rates() -> st.SearchStrategy[str]:
    """Return rates."""
    amount = st.one_of(st.integers(1, 100), st.integers(1, 10**6))
    return st.builds("{}/{}".format, amount, st.sampled_from(_values.UNITS))


@cache
def limits() -> st.SearchStrategy[Plain]:
    """Return limits of all kinds."""
    return st.fixed_dictionaries(
        {"rate": rates()},
        optional={
            "burst": st.one_of(st.integers(1, 50), st.just(65535)),
            "per": st.sampled_from(["none", "source", "destination"]),
            "mode": st.sampled_from(["over", "under"]),
        },
    )


@cache
def logs(rated: bool) -> st.SearchStrategy[Plain]:
    """Return log options; with a rate only if ``rated``."""
    optional: Plain = {"group": st.integers(0, 65535)}
    if rated:
        optional["rate"] = rates()
    return st.fixed_dictionaries({"prefix": st.text(TEXT.replace("$", ""), min_size=1, max_size=28)}, optional=optional)


@cache
def tcp_flags() -> st.SearchStrategy[Plain]:
    """Return flags of which those that are set are looked at."""
    flags = st.lists(st.sampled_from(_options.TCP_FLAGS), min_size=1, unique=True)
    chosen = flags.flatmap(lambda mask: st.tuples(st.just(mask), st.lists(st.sampled_from(mask), unique=True)))
    return chosen.map(lambda pair: {"mask": pair[0], **({"set": pair[1]} if pair[1] else {})})


@cache
def times() -> st.SearchStrategy[str]:
    """Return times in a future that no test will live to see."""
    return st.integers(4102444800, 9000000000).map(_values.format_time)


def some(word: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Return short lists."""
    return st.lists(word, min_size=1, max_size=3)


INTERFACES = some(st.one_of(st.sampled_from(["lo", "eth0", "eth1", "br-0", "vlan.7"]),
                             st.from_regex(r"[A-Za-z0-9_.:@-]{1,15}", fullmatch=True)))  # fmt: skip
OWNERS = some(st.one_of(st.integers(0, 70000), st.integers(0, 2**32 - 2).map(str)))
ADDRESS_TYPES = st.builds(str.__add__, st.sampled_from(["", "not:"]), st.sampled_from(_options.ADDRESS_TYPES))
