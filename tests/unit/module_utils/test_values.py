# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values of the contract: text to canonical form and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property.values import networks

from ansible_collections.palisade.egress.plugins.module_utils import _values
from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError

READ: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (_values.parse_rate, "1/day", (1, "day")),
    (_values.parse_rate, "2147483647/second", (2**31 - 1, "second")),
    (_values.parse_time, "1970-01-01T00:00:00Z", 0),
    (_values.parse_time, "2027-01-31T00:00:00Z", 1801353600),
    (_values.parse_time, "2028-02-29T23:59:59Z", 1835481599),
    (_values.parse_time, "2262-04-11T23:47:15Z", 9223372035),
    (_values.parse_protocol, 0, "0"),
    (_values.parse_protocol, "255", "255"),
    (_values.parse_protocol, "058", "icmpv6"),
    (_values.parse_ports, [0, "65535"], ((0, 0), (65535, 65535))),
    (_values.parse_ports, ["1-5", "6", "3-9"], ((1, 9),)),
    (_values.parse_addresses, ["0.0.0.0"], Addresses(ipv4=((0, 0),))),
    (_values.parse_addresses, ["255.255.255.255"], Addresses(ipv4=((2**32 - 1, 2**32 - 1),))),
    (_values.parse_addresses, ["::/0"], Addresses(ipv6=((0, 2**128 - 1),))),
    (_values.parse_addresses, ["::1", "0.0.0.1"], Addresses(((1, 1),), ((1, 1),))),
]

# What is wrong, and what the mend proposes.
BAD: list[tuple[Callable[[Any], Any], Any, str, str]] = [
    (_values.parse_network, "198.51.100.7/24", "bits set behind its prefix", "198.51.100.0/24, or the address alone"),
    (_values.parse_network, "2001:db8::7/32", "bits set behind its prefix", "2001:db8::/32, or the address alone"),
    (_values.parse_network, "198.51.100.0/33", "no prefix length of 0 to 32", "write it like"),
    (_values.parse_network, "::/129", "no prefix length of 0 to 128", "write it like"),
    (_values.parse_network, 7, "is not text", "in quotes"),
    (_values.parse_network, "mirror", "not an address or CIDR", "write it like"),
    (_values.parse_ports, ["70000"], "port 70000 is out of range", "0 to 65535"),
    (_values.parse_ports, ["9-5"], "the range 9-5 is reversed", "write 5-9"),
    (_values.parse_ports, ["http"], "'http' is not a port", "443"),
    (_values.parse_protocol, "tpc", "unknown protocol 'tpc'", "tcp"),
    (_values.parse_rate, "5/fortnight", "is not a rate", "20/second"),
    (_values.parse_time, "2027-01-31", "is not a time in UTC", "2027-01-31T00:00:00Z"),
]


@pytest.mark.parametrize(("parse", "text", "expected"), READ)
def test_reads(parse: Callable[[Any], Any], text: Any, expected: Any) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(("parse", "text", "what", "mend"), BAD)
def test_tells_what_is_wrong(parse: Callable[[Any], Any], text: Any, what: str, mend: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse(text)
    assert what in caught.value.what
    assert mend in caught.value.mend


@given(st.lists(st.one_of(networks("ipv4"), networks("ipv6"))))
def test_addresses_come_back(texts: list[str]) -> None:
    addresses = _values.parse_addresses(texts)
    assert _values.parse_addresses(_values.format_addresses(addresses)) == addresses


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535))))
def test_ports_come_back(ends: list[tuple[int, int]]) -> None:
    ports = _values.parse_ports(f"{min(pair)}-{max(pair)}" for pair in ends)
    assert _values.parse_ports(_values.format_ports(ports)) == ports


@given(st.integers(0, _values.MAX_TIME - 1))
def test_times_come_back(seconds: int) -> None:
    assert _values.parse_time(_values.format_time(seconds)) == seconds


@pytest.mark.parametrize("number", range(256))
def test_numbers_have_one_word(number: int) -> None:
    assert _values.parse_protocol(_values.parse_protocol(number)) == _values.parse_protocol(number)
    for protocol in ("icmp", "icmpv6"):
        word = _values.parse_icmp_type(number, protocol)
        assert _values.parse_icmp_type(word, protocol) == word


@given(st.one_of(st.text(), st.binary(), st.lists(st.text(max_size=200))))
def test_quotes_on_one_short_line(value: Any) -> None:
    assert _values.quoted(value).isprintable()
    assert len(_values.quoted(value)) <= 70
