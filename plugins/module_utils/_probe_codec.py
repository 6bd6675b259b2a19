# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes: from plain data, and their results back to it. The one place that validates them. Private to this collection.

A host is an address: looking up a name would be egress of its own, and could lead elsewhere tomorrow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible_collections.palisade.egress.plugins.module_utils._errors import ProbeError
from ansible_collections.palisade.egress.plugins.module_utils._options import kind, one_of
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError, quoted

MAX_PROBES = 500  # each has a socket, of which a process may usually have 1,024
MAX_TIMEOUT = 60
DEFAULT_TIMEOUT = 3.0
# For payloads that nobody answers: what a wrong way tells, it tells soon.
SILENT_TIMEOUT = 1.0
PAYLOAD_PORTS: Dict[str, Optional[int]] = {"dns": 53, "ntp": 123, "syslog": 514, "none": None}
SILENT_PAYLOADS = ("syslog", "none")

ACCEPTED, SENT, REFUSED, RESET = "accepted", "sent", "refused", "reset"
UNREACHABLE, TIMED_OUT, BLOCKED_HERE = "unreachable", "timed out", "blocked here"
# What shows that a probe is not held up. All else satisfies `expect: blocked`.
OPEN = (ACCEPTED, SENT)

_NAME = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?\Z")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}\Z")
_SECONDS = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,6})?\Z")
_MAPPED = b"\0" * 10 + b"\xff" * 2


@dataclass(frozen=True)
class Probe:
    """One thing to find out: whether this host can reach an address in this way, and whether it should."""

    name: str
    host: str
    protocol: str
    port: Optional[int] = None
    payload: str = "none"
    query: str = "."
    source: Optional[str] = None
    expect: str = "reachable"
    timeout: float = DEFAULT_TIMEOUT
    group: Optional[str] = None

    @property
    def family(self) -> int:
        """The address family, as sockets count."""
        return AF_INET6 if ":" in self.host else AF_INET

    @property
    def is_silent(self) -> bool:
        """Whether no answer is to be expected even where all is well."""
        return self.protocol == "udp" and self.payload in SILENT_PAYLOADS

    def __str__(self) -> str:
        port = "" if self.port is None else f" port {self.port}"
        return f"{self.name} ({self.protocol} {self.host}{port})"


@dataclass(frozen=True)
class Result:
    """What a probe measured, how that is known, and how long it took."""

    probe: Probe
    measured: str
    detail: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it is what the probe expects."""
        return (self.measured in OPEN) == (self.probe.expect == "reachable")

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.probe}: expected {self.probe.expect}, measured {self.measured}{detail}"

    def as_dict(self) -> Dict[str, Any]:
        """Return it as plain data."""
        probe = self.probe
        return {
            "name": probe.name,
            "host": probe.host,
            "protocol": probe.protocol,
            "port": probe.port,
            "expect": probe.expect,
            "measured": self.measured,
            "detail": self.detail,
            "ok": self.ok,
            "group": probe.group,
            "seconds": round(self.seconds, 3),
        }


def decode_probes(given: object) -> List[Probe]:
    """Return the probes that plain data describes; raises ``ProbeError``, which names probe, option and mend."""
    if not isinstance(given, list):
        raise ProbeError("probes", f"must be a list, not {kind(given)}", "give a list of probes")
    if not given:
        raise ProbeError("probes", "is an empty list, which would show nothing", "give at least one probe")
    if len(given) > MAX_PROBES:
        raise ProbeError("probes", f"has {len(given)} probes", f"give at most {MAX_PROBES} at once")
    probes = [_decode(item, f"probes[{index}]") for index, item in enumerate(given)]
    places: Dict[str, int] = {}
    for index, probe in enumerate(probes):
        first = places.setdefault(probe.name, index)
        if first != index:
            where = f"probe {quoted(probe.name)} (probes[{index}]).name"
            raise ProbeError(where, f"is the name of probes[{first}] too", "give each probe a name of its own")
    return probes


def _decode(given: object, place: str) -> Probe:
    if not isinstance(given, Mapping):
        raise ProbeError(place, f"must be a dictionary, not {kind(given)}", f"its options are {', '.join(PARSERS)}")
    name = given.get("name")
    where = f"probe {quoted(name)} ({place})" if isinstance(name, str) else place
    for key in given:
        if key not in PARSERS:
            near = get_close_matches(str(key)[:60], PARSERS, 1)
            mend = f"did you mean {near[0]!r}" if near else f"the options are {', '.join(PARSERS)}"
            raise ProbeError(where, f"has no option {quoted(key)}", mend)
    for key in ("name", "host", "protocol"):
        if key not in given:
            raise ProbeError(f"{where}.{key}", "is missing", "every probe has a name, a host and a protocol")
    values = {}
    for key, value in given.items():
        try:
            values[key] = PARSERS[key](value)
        except BadValueError as bad:
            raise ProbeError(f"{where}.{key}", bad.what, bad.mend) from None
    return _completed(values, where)


def _completed(values: Dict[str, Any], where: str) -> Probe:
    """Return the probe of these options; what they demand of each other is checked here."""
    protocol, payload = values["protocol"], values.get("payload", "none")
    if protocol != "udp" and "payload" in values:
        raise ProbeError(f"{where}.payload", "goes with protocol: udp only", "leave it out")
    if payload != "dns" and "query" in values:
        raise ProbeError(f"{where}.query", "goes with payload: dns only", "set the payload, or leave it out")
    if protocol == "icmp" and "port" in values:
        raise ProbeError(f"{where}.port", "goes with protocol: tcp and udp only", "leave it out")
    port = values.get("port", PAYLOAD_PORTS[payload])
    if protocol != "icmp" and port is None:
        raise ProbeError(f"{where}.port", "is missing", f"say which port of {protocol}")
    if "group" in values and values.get("expect") == "blocked":
        raise ProbeError(f"{where}.group", "goes with expect: reachable only", "leave it out: each has to be blocked")
    probe = Probe(**{**values, "port": port})
    if probe.source is not None and (":" in probe.source) != (":" in probe.host):
        raise ProbeError(f"{where}.source", f"{probe.source} and the host {probe.host} are of two families",
                         "give addresses of one family")  # fmt: skip
    timeout = values.get("timeout", SILENT_TIMEOUT if probe.is_silent else DEFAULT_TIMEOUT)
    return Probe(**{**values, "port": port, "timeout": timeout})


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"must be text, not {kind(value)}", "put it in quotes")
    if not _NAME.match(value):
        raise BadValueError(f"{quoted(value)} cannot be a name", "use 1 to 128 characters of printable ASCII")
    return value


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"must be text, not {kind(value)}", "write an address in quotes")
    family = AF_INET6 if ":" in value else AF_INET
    try:
        packed = inet_pton(family, value)
    except (OSError, ValueError):
        mend = "write one such as 198.51.100.1 or 2001:db8::1; a name would have to be looked up, which is egress too"
        raise BadValueError(f"{quoted(value)} is not an address", mend) from None
    if packed[:12] == _MAPPED and len(packed) == 16:
        raise BadValueError(f"{quoted(value)} is an IPv4 address", f"write {inet_ntop(AF_INET, packed[12:])}")
    if not _is_of_one_host(packed):
        raise BadValueError(f"{quoted(value)} is not the address of one host", "write a unicast address")
    if len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        raise BadValueError(f"{quoted(value)} is link-local, which needs an interface", "write a global address")
    return inet_ntop(family, packed)


def _is_of_one_host(packed: bytes) -> bool:
    if len(packed) == 4:
        return 0 < packed[0] < 224 or 240 <= packed[0] < 255
    return packed[0] != 0xFF and any(packed)


def _port(value: object) -> int:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and re.match(r"-?[0-9]{1,9}\Z", text):
        if 1 <= int(text) <= 65535:
            return int(text)
        raise BadValueError(f"port {text} is out of range", "ports go from 1 to 65535")
    raise BadValueError(f"{quoted(value)} is not a port", "write a number such as 443")


def _timeout(value: object) -> float:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(value, float):
        text = f"{value:f}"  # not 1e-05
    if isinstance(text, str) and _SECONDS.match(text) and 0 < float(text) <= MAX_TIMEOUT:
        return float(text)
    raise BadValueError(f"{quoted(value)} is not a timeout", f"write seconds, more than 0 and up to {MAX_TIMEOUT}")


def _query(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"must be text, not {kind(value)}", "put it in quotes")
    labels = value[:-1].split(".") if value.endswith(".") else value.split(".")
    if value == "." or (len(value) <= 253 and all(_LABEL.match(label) for label in labels)):
        return value
    raise BadValueError(f"{quoted(value)} is not a domain name", "write one such as example.org, or . for the root")


# What each option may look like: a parser raises ``BadValueError``.
PARSERS: Dict[str, Callable[[object], Any]] = {
    "name": _name,
    "host": _address,
    "protocol": one_of("tcp", "udp", "icmp"),
    "port": _port,
    "payload": one_of(*PAYLOAD_PORTS),
    "query": _query,
    "source": _address,
    "expect": one_of("reachable", "blocked"),
    "timeout": _timeout,
    "group": _name,
}
