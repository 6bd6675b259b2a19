# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes as data: what is refused and how the author is told; what results say; what is an answer."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace

import pytest
import yaml

from ansible_collections.palisade.egress.plugins.module_utils import _probe
from ansible_collections.palisade.egress.plugins.module_utils._errors import EgressError
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import Probe, Result, decode_probes
from ansible_collections.palisade.egress.plugins.module_utils._probe_errors import (
    IcmpError,
    measured_by_call,
    measured_by_icmp,
    measured_later,
)
from ansible_collections.palisade.egress.plugins.module_utils._probe_payloads import exchange_of

GOOD = {"name": "db", "host": "198.51.100.2", "protocol": "tcp", "port": 5432}

# What is changed in a good probe (~ takes an option away) | the message
BAD_OPTIONS = """
hots: 198.51.100.1            | probe 'db' (probes[0]): has no option 'hots'. Did you mean 'host'.
7: 8                          | probe 'db' (probes[0]): has no option 7. The options are name, host,
name: ~                       | probes[0].name: must be text, not null. Put it in quotes
name: 7                       | probes[0].name: must be text, not a number. Put it in quotes
name: ""                      | probe '' (probes[0]).name: '' cannot be a name. Use 1 to 128 characters of printable
name: "a\\nb"                 | cannot be a name. Use 1 to 128
name: " a"                    | cannot be a name. Use 1 to 128
name: "é"                     | cannot be a name. Use 1 to 128
host: db.example.org          | probe 'db' (probes[0]).host: 'db.example.org' is not an address. Write one such as
host: localhost               | a name would have to be looked up, which is egress too.
host: 198.51.100.0/24         | '198.51.100.0/24' is not an address.
host: 198.51.100.300          | '198.51.100.300' is not an address.
host: 010.0.0.1               | '010.0.0.1' is not an address.
host: "2001:db8::g"           | '2001:db8::g' is not an address.
host: "fe80::1%eth0"          | 'fe80::1%eth0' is not an address.
host: "fe80::1"               | 'fe80::1' is link-local, which needs an interface. Write a global address
host: "::ffff:198.51.100.2"   | '::ffff:198.51.100.2' is an IPv4 address. Write 198.51.100.2
host: 224.0.0.1               | '224.0.0.1' is not the address of one host. Write a unicast address
host: 255.255.255.255         | '255.255.255.255' is not the address of one host.
host: 0.0.0.0                 | '0.0.0.0' is not the address of one host.
host: "::"                    | '::' is not the address of one host.
host: "ff02::1"               | 'ff02::1' is not the address of one host.
host: 5                       | probe 'db' (probes[0]).host: must be text, not a number. Write an address in quotes
host: [198.51.100.2]          | probe 'db' (probes[0]).host: must be text, not a list.
protocol: tpc                 | probe 'db' (probes[0]).protocol: 'tpc' is not possible. Use one of tcp, udp, icmp
protocol: icmpv6              | 'icmpv6' is not possible. Use one of tcp, udp, icmp
protocol: ~                   | None is not possible. Use one of tcp, udp, icmp
port: 70000                   | probe 'db' (probes[0]).port: port 70000 is out of range. Ports go from 1 to 65535
port: 0                       | probe 'db' (probes[0]).port: port 0 is out of range.
port: -1                      | probe 'db' (probes[0]).port: port -1 is out of range.
port: http                    | probe 'db' (probes[0]).port: 'http' is not a port. Write a number such as 443
port: 80-90                   | '80-90' is not a port.
port: true                    | True is not a port.
port: 80.5                    | 80.5 is not a port.
port: [80]                    | [80] is not a port.
payload: dns                  | probe 'db' (probes[0]).payload: goes with protocol: udp only. Leave it out
query: example.org            | probe 'db' (probes[0]).query: goes with payload: dns only. Set the payload
source: "2001:db8::1"         | (probes[0]).source: 2001:db8::1 and the host 198.51.100.2 are of two families. Give
source: eth0                  | probe 'db' (probes[0]).source: 'eth0' is not an address.
expect: open                  | probe 'db' (probes[0]).expect: 'open' is not possible. Use one of reachable, blocked
timeout: 0                    | probe 'db' (probes[0]).timeout: 0 is not a timeout. Write seconds, more than 0 and up to
timeout: 61                   | 61 is not a timeout. Write seconds, more than 0 and up to 60
timeout: -1                   | -1 is not a timeout.
timeout: 3s                   | '3s' is not a timeout.
timeout: .nan                 | nan is not a timeout.
timeout: .inf                 | inf is not a timeout.
timeout: true                 | True is not a timeout.
timeout: ~                    | None is not a timeout.
group: ""                     | probe 'db' (probes[0]).group: '' cannot be a name. Use 1 to 128 characters of printable
group: ~                      | probe 'db' (probes[0]).group: must be text, not null. Put it in quotes
{expect: blocked, group: all} | probe 'db' (probes[0]).group: goes with expect: reachable only. Leave it out: each has
""".strip().splitlines()

# A whole list of probes | the message
BAD_LISTS = """
~                                                   | probes: must be a list, not null. Give a list of probes
{name: a}                                           | probes: must be a list, not a dictionary. Give a list of probes
dns                                                 | probes: must be a list, not text. Give a list of probes
[]                                                  | probes: is an empty list, which would show nothing. Give at least
[db]                                                | probes[0]: must be a dictionary, not text. Its options are name,
[{}]                                                | probes[0].name: is missing. Every probe has a name, a host
[{name: a}]                                         | probe 'a' (probes[0]).host: is missing. Every probe has
[{name: a, host: 192.0.2.1}]                        | probe 'a' (probes[0]).protocol: is missing. Every probe has
[{name: a, host: 192.0.2.1, protocol: tcp}]         | probe 'a' (probes[0]).port: is missing. Say which port of tcp
[{name: a, host: 192.0.2.1, protocol: udp}]         | probe 'a' (probes[0]).port: is missing. Say which port of udp
[{name: a, host: 192.0.2.1, protocol: icmp, port: 1}] | (probes[0]).port: goes with protocol: tcp and udp only. Leave
[{name: a, host: 192.0.2.1, protocol: icmp, payload: none}] | (probes[0]).payload: goes with protocol: udp only.
[{name: a, host: 192.0.2.1, protocol: udp, payload: http}]  | 'http' is not possible. Use one of dns, ntp, syslog, none
[{name: a, host: 192.0.2.1, protocol: udp, payload: [dns]}] | ['dns'] is not possible. Use one of dns,
[{name: a, host: 192.0.2.1, protocol: udp, payload: ntp, query: a}]    | (probes[0]).query: goes with payload: dns only
[{name: a, host: 192.0.2.1, protocol: udp, payload: dns, query: a..b}] | (probes[0]).query: 'a..b' is not a domain name.
[{name: a, host: 192.0.2.1, protocol: udp, payload: dns, query: ""}]   | '' is not a domain name. Write one such as
[{name: a, host: 192.0.2.1, protocol: udp, payload: dns, query: 7}]    | (probes[0]).query: must be text, not a number.
[{name: a, host: 192.0.2.1, protocol: icmp}, {name: a, host: 192.0.2.2, protocol: icmp}] | probe 'a' (probes[1]).name: is the name of probes[0] too. Give each
""".strip().splitlines()  # noqa: E501  # a case is a line


def told(given: object) -> str:
    with pytest.raises(EgressError) as caught:
        decode_probes(given)
    return str(caught.value)


@pytest.mark.parametrize("line", BAD_OPTIONS)
def test_bad_option(line: str) -> None:
    change, message = (part.strip() for part in line.split(" | "))
    assert message in told([{**GOOD, **yaml.safe_load(change)}])


@pytest.mark.parametrize("line", BAD_LISTS)
def test_bad_list(line: str) -> None:
    given, message = (part.strip() for part in line.split(" | "))
    assert message in told(yaml.safe_load(given))


def test_too_many() -> None:
    probes = [{**GOOD, "name": f"p{number}"} for number in range(501)]
    assert told(probes) == "probes: has 501 probes. Give at most 500 at once."
    assert len(decode_probes(probes[1:])) == 500


def test_the_place_of_a_bad_probe_is_its_own() -> None:
    assert told([GOOD, {**GOOD, "name": "web", "port": 0}]).startswith("probe 'web' (probes[1]).port: ")


# Options | those of the probe that they make
GOOD_OPTIONS = """
protocol: tcp, port: "443"                                 | port: 443, timeout: 3.0
protocol: tcp, port: 443, timeout: "1.5"                   | port: 443, timeout: 1.5
protocol: tcp, port: 443, timeout: 60                      | port: 443, timeout: 60.0
protocol: tcp, port: 443, timeout: 0.00001                 | port: 443, timeout: 0.00001
protocol: tcp, port: 443, expect: blocked                  | port: 443, expect: blocked
protocol: icmp                                             | port: null, timeout: 3.0
protocol: icmp, group: one of all                          | port: null, group: one of all
protocol: udp, payload: dns                                | port: 53, payload: dns, query: ., timeout: 3.0
protocol: udp, payload: dns, port: 5353, query: a.example. | port: 5353, payload: dns, query: a.example.
protocol: udp, payload: ntp                                | port: 123, payload: ntp, timeout: 3.0
protocol: udp, payload: syslog                             | port: 514, payload: syslog, timeout: 1.0
protocol: udp, payload: syslog, timeout: 5                 | port: 514, payload: syslog, timeout: 5.0
protocol: udp, port: 9                                     | port: 9, payload: none, timeout: 1.0
""".strip().splitlines()


@pytest.mark.parametrize("line", GOOD_OPTIONS)
def test_good_options(line: str) -> None:
    given, made = (yaml.safe_load(f"{{{part}}}") for part in line.split(" | "))
    expected = Probe(name="x", host="192.0.2.1", protocol=given["protocol"])
    assert decode_probes([{"name": "x", "host": "192.0.2.1", **given}]) == [replace(expected, **made)]


def test_addresses_are_written_in_one_way() -> None:
    (probe,) = decode_probes([{**GOOD, "host": "2001:DB8:0::1", "source": "2001:db8:0:0::2"}])
    assert (probe.host, probe.source) == ("2001:db8::1", "2001:db8::2")


def test_link_local_ipv4_such_as_a_metadata_service_is_an_address() -> None:
    assert decode_probes([{**GOOD, "host": "169.254.169.254"}])[0].host == "169.254.169.254"


OPEN = {"accepted", "sent"}
ALL = [*sorted(OPEN), "refused", "reset", "unreachable", "timed out", "blocked here"]


@pytest.mark.parametrize("measured", ALL)
def test_what_satisfies_what(measured: str) -> None:
    probe = Probe(name="x", host="192.0.2.1", protocol="tcp", port=1)
    assert Result(probe, measured, "", 0).ok == (measured in OPEN)
    assert Result(replace(probe, expect="blocked"), measured, "", 0).ok == (measured not in OPEN)


def test_one_line_names_each_failed_probe() -> None:
    (db, ping, web) = decode_probes(
        [
            GOOD,
            {"name": "ping", "host": "2001:db8::1", "protocol": "icmp", "expect": "blocked"},
            {"name": "web", "host": "192.0.2.1", "protocol": "tcp", "port": 80, "expect": "blocked"},
        ]
    )
    results = [
        Result(db, "refused", "port unreachable, says 192.0.2.9", 0.1),
        Result(ping, "accepted", "", 0.1),
        Result(web, "timed out", "", 3),
    ]
    assert _probe.failure_of(results) == (
        "2 of 3 probes failed: db (tcp 198.51.100.2 port 5432): expected reachable, "
        "measured refused (port unreachable, says 192.0.2.9); "
        "ping (icmp 2001:db8::1): expected blocked, measured accepted"
    )
    assert _probe.failure_of(results[2:]) == ""


def measured(*each: str) -> str:
    """Return what is said of probes, each given as name, group (- for none) and measurement."""
    results = []
    for name, group, found in (words.split() for words in each):
        options = {} if group == "-" else {"group": group}
        (probe,) = decode_probes([{**GOOD, "name": name, **options}])
        results.append(Result(probe, found, "", 0))
    return _probe.failure_of(results)


def test_of_a_group_one_has_to_be_satisfied() -> None:
    assert measured("a g reset", "b g accepted", "c g refused") == ""
    assert measured("a g sent", "b g reset") == ""
    assert measured("a g reset", "b g unreachable", "c - accepted") == (
        "2 of 3 probes failed: a (tcp 198.51.100.2 port 5432): expected reachable, measured reset; "
        "b (tcp 198.51.100.2 port 5432): expected reachable, measured unreachable"
    )


def test_a_group_excuses_no_probe_but_its_own() -> None:
    assert measured("a g accepted", "b h reset").startswith("1 of 2 probes failed: b ")
    assert measured("a g accepted", "b - reset").startswith("1 of 2 probes failed: b ")
    assert measured("a - accepted", "b - reset").startswith("1 of 2 probes failed: b ")


def test_a_result_as_plain_data() -> None:
    (db,) = decode_probes([GOOD])
    assert Result(db, "timed out", "", 3.00049).as_dict() == {
        "name": "db", "host": "198.51.100.2", "protocol": "tcp", "port": 5432, "expect": "reachable",
        "measured": "timed out", "detail": "", "ok": False, "group": None, "seconds": 3.0,
    }  # fmt: skip


OWN, PEER, ROUTER = "127.0.0.1", "192.0.2.2", "192.0.2.254"


@pytest.mark.parametrize(
    ("text", "sender", "at_once", "measured"),
    [
        ("port unreachable", PEER, False, "refused"),
        ("port unreachable", ROUTER, False, "refused"),
        ("port unreachable", OWN, False, "blocked here"),
        ("administratively prohibited", PEER, False, "unreachable"),
        ("administratively prohibited", OWN, False, "blocked here"),
        ("host unreachable", ROUTER, False, "unreachable"),
        ("host unreachable", ROUTER, True, "unreachable"),
        ("host unreachable", OWN, False, "unreachable"),
        ("host unreachable", OWN, True, "blocked here"),
        ("address unreachable", OWN, False, "unreachable"),
        ("time exceeded on the way", ROUTER, False, "unreachable"),
        ("time exceeded on the way", OWN, False, "unreachable"),
    ],
)
def test_who_sent_an_error(text: str, sender: str, at_once: bool, measured: str) -> None:
    assert measured_by_icmp(IcmpError(text, sender), PEER, at_once=at_once)[0] == measured


def test_an_error_of_a_probe_to_oneself_is_the_peers() -> None:
    assert measured_by_icmp(IcmpError("port unreachable", OWN), OWN)[0] == "refused"


@pytest.mark.parametrize(
    ("number", "measured"),
    [
        (errno.EPERM, "blocked here"),
        (errno.EACCES, "blocked here"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.EINVAL, "unreachable"),
    ],
)
def test_errors_of_the_call(number: int, measured: str) -> None:
    assert measured_by_call(number)[0] == measured


def test_errors_that_come_later_without_a_sender() -> None:
    assert measured_later(errno.ECONNREFUSED, is_tcp=True)[0] == "reset"
    assert measured_later(errno.ECONNREFUSED, is_tcp=False)[0] == "refused"
    # Of ICMPv6 administratively prohibited: by whom is not known.
    assert measured_later(errno.EACCES, is_tcp=True)[0] == "unreachable"


def test_a_host_without_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(_probe, "socket", refuse)
    udp = {"name": "dns", "host": "2001:db8::1", "protocol": "udp", "payload": "dns"}
    results = _probe.run_probes(decode_probes([{**GOOD, "host": "2001:db8::1"}, udp]))
    assert [result.measured for result in results] == ["unreachable", "unreachable"]
    assert "not supported" in results[0].detail


def exchange(**options: object):
    return exchange_of(Probe(name="x", host=options.pop("host", "192.0.2.1"), **{"protocol": "udp", **options}))


@pytest.mark.parametrize(
    ("query", "question"),
    [
        (".", b"\0\0\2\0\1"),
        ("a.example", b"\1a\7example\0\0\1\0\1"),
        ("a.example.", b"\1a\7example\0\0\1\0\1"),
    ],
)
def test_dns_query(query: str, question: bytes) -> None:
    request = exchange(payload="dns", query=query).request
    assert request[2:] == b"\1\0\0\1\0\0\0\0\0\0" + question


def test_dns_answer() -> None:
    asked = exchange(payload="dns")
    answer = asked.request[:2] + b"\x81\x85" + asked.request[4:]
    other = bytes([answer[0] ^ 1]) + answer[1:]
    assert asked.is_answer(answer)
    assert [asked.is_answer(wrong) for wrong in (asked.request, other, answer[:11], b"")] == [False] * 4


def test_ntp_answer() -> None:
    asked = exchange(payload="ntp")
    assert (len(asked.request), asked.request[0]) == (48, 0x23)
    answer = b"\x24" + bytes(23) + asked.request[40:] + bytes(16)
    assert asked.is_answer(answer)
    wrong = [asked.request, b"\x23" + answer[1:], answer[:24] + bytes(8) + answer[32:], answer[:47], b""]
    assert [asked.is_answer(each) for each in wrong] == [False] * 5


def test_syslog_line() -> None:
    asked = exchange(payload="syslog")
    assert asked.request == b"<15>1 - - palisade.egress - - - egress probe x"
    assert exchange(payload="none").request == b""


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_echo(host: str) -> None:
    asked = exchange(protocol="icmp", host=host)
    header = b"\x45" + bytes(19) if "." in host else b""
    reply = header + bytes([0 if header else 129, 0, 0, 0]) + asked.request[4:]
    assert asked.is_answer(reply)
    wrong = [header + asked.request, reply[:-1], reply[:-1] + bytes([reply[-1] ^ 1]), b""]
    assert [asked.is_answer(each) for each in wrong] == [False] * 4
    if header:
        total = sum(struct.unpack("!11H", asked.request))
        assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_no_two_requests_are_alike() -> None:
    assert exchange(payload="ntp").request != exchange(payload="ntp").request
    assert exchange(protocol="icmp").request != exchange(protocol="icmp").request
