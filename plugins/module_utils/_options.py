# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Single options of the data contract: what each may look like, and how it is written. Private to this collection.

``PARSERS`` and ``FORMATTERS`` have an entry an option; a parser raises ``BadValueError``. A new option begins here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Callable, Dict, List, Mapping, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._model import (
    BASE_CHAINS,
    Addresses,
    AddressType,
    Dispatch,
    Limit,
    Log,
    TcpFlags,
)
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges
from ansible_collections.palisade.egress.plugins.module_utils._values import (
    BadValueError,
    format_addresses,
    format_ports,
    format_time,
    parse_addresses,
    parse_ports,
    parse_protocol,
    parse_rate,
    parse_time,
    quoted,
)

ACTIONS = ("accept", "drop", "reject", "log", "jump", "return", "dispatch")
ADDRESS_TYPES = ("local", "unicast", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit")
CTSTATES = ("new", "established", "related", "invalid", "untracked")
TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")
REJECTS = (
    "icmp-port-unreachable",
    "icmp-net-unreachable",
    "icmp-host-unreachable",
    "icmp-admin-prohibited",
    "tcp-reset",
)
PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
DEFAULT_BURST = 5
# Between a rule's name and its comment, in the one comment that a backend keeps for a rule.
COMMENT_MARK = " # "
# Names of rules that the module writes itself.
RESERVED_PREFIX = "palisade/"

_TEXT = re.compile(r"[ !#-\[\]-~]*\Z")
# nft would take what follows a dollar for the name of a variable, even between quotes.
_LOG_PREFIX = re.compile(r"[ !#%-\[\]-~]{1,28}\Z")
CHAIN_NAME = re.compile(r"[a-z0-9_]{1,20}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\Z")
_OWNER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,63}\$?\Z")
MAX_OWNER = 2**32 - 2  # the number above is nobody at all
_CGROUP = re.compile(r"[A-Za-z0-9_.@:/-]{1,200}\Z")


def kind(value: object) -> str:
    """Return what a person calls a value of this type."""
    names = {type(None): "null", str: "text", list: "a list", dict: "a dictionary", int: "a number", bool: "a boolean"}
    return names.get(type(value), type(value).__name__)


def _text(value: object) -> str:
    if isinstance(value, str) and _TEXT.match(value) and COMMENT_MARK not in f"{value} " and value == value.strip():
        return value
    if not isinstance(value, str):
        raise BadValueError(f"must be text, not {kind(value)}", "put it in quotes")
    raise BadValueError(
        f"{quoted(value)} has characters that the kernel's listing could not give back",
        f"use printable ASCII without quotes, backslashes, outer blanks and {COMMENT_MARK!r}",
    )


def _name(value: object) -> str:
    text = _text(value)
    if not text:
        raise BadValueError("is empty", "name the rule, for instance web/https")
    if text.startswith(RESERVED_PREFIX) or text.startswith("#"):
        raise BadValueError(f"{quoted(text)} is reserved", f"do not begin a name with {RESERVED_PREFIX} or #")
    return text


def one_of(*words: str) -> Callable[[object], str]:
    """Return a parser that takes one of these words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise BadValueError(f"{quoted(value)} is not possible", f"use one of {', '.join(words)}")

    return parse


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and pattern.match(text):
            return text
        raise BadValueError(f"{quoted(value)} is not {what}", f"write {what}")

    return parse


def _owner(what: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        text = _matching(_OWNER, f"the name or number of a {what}")(value)
        if not text.isdigit():
            return text
        if int(text) > MAX_OWNER:
            raise BadValueError(f"{quoted(text)} is out of range", f"numbers go from 0 to {MAX_OWNER}")
        return str(int(text))

    return parse


def _list(value: object) -> List[Any]:
    if not isinstance(value, list):
        raise BadValueError(f"must be a list, not {kind(value)}", "write it in brackets")
    if not value:
        raise BadValueError(
            "is an empty list, which would match nothing or everything", "leave the option out to mean any"
        )
    return value


def _words(parse_word: Callable[[object], str]) -> Callable[[object], Tuple[str, ...]]:
    return lambda value: tuple(sorted({parse_word(item) for item in _list(value)}))


def _ports(value: object) -> Ranges:
    return parse_ports(_list(value))


def priority(value: object) -> int:
    """Return a chain's priority as a number."""
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if isinstance(value, int) and not isinstance(value, bool) and -1000 <= value <= 1000:
        return value
    raise BadValueError(
        f"{quoted(value)} is no priority", f"use {', '.join(PRIORITIES)} or a number from -1000 to 1000"
    )


def _address_type(value: object) -> AddressType:
    text = value if isinstance(value, str) else ""
    negated = text.startswith("not:")
    return AddressType(one_of(*ADDRESS_TYPES)(text[4:] if negated else text), negated)


def _options(
    required: Dict[str, Callable[[Any], Any]], optional: Dict[str, Callable[[Any], Any]]
) -> Callable[[object], Dict[str, Any]]:
    """Return a parser of a dictionary with these options."""

    def parse(value: object) -> Dict[str, Any]:
        known = {**required, **optional}
        if not isinstance(value, Mapping) or not set(required) <= set(value) <= set(known):
            raise BadValueError(f"{quoted(value)} does not have the right options", f"it takes {', '.join(known)}")
        parsed = {}
        for key, item in value.items():
            try:
                parsed[key] = known[key](item)
            except BadValueError as bad:
                raise BadValueError(f"{key}: {bad.what}", bad.mend) from None
        return parsed

    return parse


def _number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise BadValueError(f"{quoted(value)} is not a number from {low} to {high}", "write such a number")

    return parse


def _tcp_flags(value: object) -> TcpFlags:
    flags = _words(one_of(*TCP_FLAGS))
    parsed = _options({"mask": flags}, {"set": flags})(value)
    if not set(parsed.get("set", ())) <= set(parsed["mask"]):
        raise BadValueError("set: has flags that mask lacks, so that nothing could match", "list them in mask too")
    return TcpFlags(parsed["mask"], parsed.get("set", ()))


def _limit(value: object) -> Limit:
    per = one_of("none", "source", "destination")
    optional = {"burst": _number(1, 65535), "per": per, "mode": one_of("over", "under")}
    parsed = _options({"rate": parse_rate}, optional)(value)
    amount, unit = parsed["rate"]
    burst = parsed.get("burst", DEFAULT_BURST)
    return Limit(amount, unit, burst, parsed.get("per", "none"), parsed.get("mode", "under"))


def _log_prefix(value: object) -> str:
    if isinstance(value, str) and _LOG_PREFIX.match(value):
        return value
    raise BadValueError(
        f"{quoted(value)} is no log prefix",
        "use 1 to 28 characters of printable ASCII without quotes, backslashes and dollars",
    )


def _log(value: object) -> Log:
    parsed = _options({"prefix": _log_prefix}, {"group": _number(0, 65535), "rate": parse_rate})(value)
    amount, unit = parsed.get("rate", (0, "second"))
    return Log(parsed["prefix"], parsed.get("group"), amount, unit)


def _dispatch(value: object) -> Dispatch:
    if not isinstance(value, Mapping) or len(value) != 1 or not set(value) <= {"source", "destination"}:
        raise BadValueError(
            "must have exactly one of source and destination", "write {source: {198.51.100.80/32: from_web1}}"
        )
    ((selector, table),) = value.items()
    if not isinstance(table, Mapping) or not table:
        raise BadValueError(f"{selector}: must be a dictionary with members", "write {198.51.100.80/32: from_web1}")
    by_chain: Dict[str, List[object]] = {}
    for network, chain in table.items():
        if not isinstance(chain, str) or not CHAIN_NAME.match(chain) or chain in BASE_CHAINS:
            raise BadValueError(f"{quoted(chain)} is no chain of your own", "name one by up to 20 of a-z, 0-9 and _")
        by_chain.setdefault(chain, []).append(network)
    branches = tuple((parse_addresses(networks), chain) for chain, networks in sorted(by_chain.items()))
    dispatch = Dispatch(selector, branches)
    for family in ("ipv4", "ipv6"):
        covered = dispatch.addresses(family)
        if any(after[0] <= before[1] for before, after in zip(covered, covered[1:])):
            raise BadValueError(f"{selector}: {family} networks of two chains overlap", "give each address one chain")
    return dispatch


def plain(value: Any) -> Any:
    """Return a value that needs no more than its tuple made a list."""
    return list(value) if isinstance(value, tuple) else value


def _format_limit(limit: Limit) -> Dict[str, Any]:
    return {"rate": f"{limit.amount}/{limit.unit}", "burst": limit.burst, "per": limit.per, "mode": limit.mode}


def _format_log(log: Log) -> Dict[str, Any]:
    options = {"prefix": log.prefix, "group": log.group, "rate": f"{log.amount}/{log.unit}" if log.amount else None}
    return {key: value for key, value in options.items() if value is not None}


def _format_flags(flags: TcpFlags) -> Dict[str, Any]:
    return {"mask": list(flags.mask), **({"set": list(flags.set)} if flags.set else {})}


def _format_dispatch(dispatch: Dispatch) -> Dict[str, Any]:
    table = {cidr: chain for addresses, chain in dispatch.branches for cidr in format_addresses(addresses)}
    return {dispatch.selector: table}


def _addresses(value: object) -> Addresses:
    items = _list(value)
    return _parsed(tuple(items)) if all(isinstance(item, str) for item in items) else parse_addresses(items)


@lru_cache(maxsize=1024)
def _parsed(texts: Tuple[str, ...]) -> Addresses:
    """Parse each list once: a compiled fleet has the same ones in the rules of many hosts."""
    return parse_addresses(texts)


PARSERS: Dict[str, Callable[[Any], Any]] = {
    "name": _name,
    "chain": str,
    "action": one_of(*ACTIONS),
    "target": _matching(CHAIN_NAME, "the name of a chain of your own"),
    "dispatch": _dispatch,
    "family": one_of("any", "ipv4", "ipv6"),
    "protocol": parse_protocol,
    "source": _addresses,
    "destination": _addresses,
    "source_type": _address_type,
    "destination_type": _address_type,
    "reverse_path": one_of("strict", "loose"),
    "source_ports": _ports,
    "destination_ports": _ports,
    "tcp_flags": _tcp_flags,
    "icmp_type": lambda value: tuple(_list(value)),
    "in_interface": _words(_matching(_INTERFACE, "the name of an interface")),
    "out_interface": _words(_matching(_INTERFACE, "the name of an interface")),
    "ctstate": _words(one_of(*CTSTATES)),
    "ct_direction": one_of("original", "reply"),
    "uid_owner": _words(_owner("user")),
    "gid_owner": _words(_owner("group")),
    "cgroup": _words(_matching(_CGROUP, "the path of a cgroup")),
    "limit": _limit,
    "log": _log,
    "reject_with": one_of(*REJECTS),
    "expires": parse_time,
    "comment": _text,
}

FORMATTERS: Dict[str, Callable[[Any], Any]] = {
    "dispatch": _format_dispatch,
    "source": format_addresses,
    "destination": format_addresses,
    "source_type": lambda value: f"not:{value.kind}" if value.negated else value.kind,
    "destination_type": lambda value: f"not:{value.kind}" if value.negated else value.kind,
    "source_ports": format_ports,
    "destination_ports": format_ports,
    "tcp_flags": _format_flags,
    "limit": _format_limit,
    "log": _format_log,
    "expires": format_time,
}
