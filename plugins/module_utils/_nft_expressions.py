# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The expressions of nft's JSON listing, each as the option of the contract that it is. Private to this collection.

The schema is that of libnftables-json(5); where versions differ, both forms are read. What no rule of ours would
contain raises ``UnexplainedError``.
"""

from __future__ import annotations

from calendar import timegm
from dataclasses import dataclass, field
from time import strptime
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._model import AddressType, Limit, Log, TcpFlags
from ansible_collections.palisade.egress.plugins.module_utils._nft_render import (
    ADDRESS,
    IP,
    LIMIT_SIZE,
    REJECT_WITH,
    NamedSet,
)
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Range, merge
from ansible_collections.palisade.egress.plugins.module_utils._values import (
    parse_icmp_type,
    parse_network,
    parse_ports,
    parse_protocol,
)

FAMILY_OF = {keyword: family for family, keyword in IP.items()}
REJECTED_WITH = {text: word for word, text in REJECT_WITH.items()}


class UnexplainedError(Exception):
    """Something that rendering a rule of ours would never give."""


@dataclass
class Line:
    """One line of a chain, while it is being read.

    ``options`` are those of ``Rule``, but for addresses, which are the ranges of the line's one ``family``.
    """

    sets: Mapping[str, NamedSet]
    family: Optional[str] = None
    counter: Optional[str] = None
    options: Dict[str, Any] = field(default_factory=dict)
    used_sets: Set[str] = field(default_factory=set)

    def put(self, option: str, value: Any) -> None:
        """Note an option, which a line has once at most."""
        if option in self.options:
            raise UnexplainedError(f"{option} twice")
        self.options[option] = value

    def of_family(self, family: str) -> None:
        """Note that the line is about one family."""
        if self.family not in (None, family):
            raise UnexplainedError("two families")
        self.family = family

    def of_protocol(self, protocol: str) -> None:
        """Note that the line is about one protocol."""
        if self.options.setdefault("protocol", protocol) != protocol:
            raise UnexplainedError("two protocols")

    def named(self, reference: str) -> NamedSet:
        """Return the set that ``@name`` refers to."""
        if reference[1:] not in self.sets:
            raise UnexplainedError(f"no set {reference}")
        self.used_sets.add(reference[1:])
        return self.sets[reference[1:]]


def parse_line(statements: List[Any], sets: Mapping[str, NamedSet]) -> Line:
    """Return what the statements of one line say."""
    line = Line(sets)
    for statement in statements:
        ((kind, value),) = statement.items()
        if kind not in _STATEMENTS:
            raise UnexplainedError(kind)
        _STATEMENTS[kind](line, value)
    order = [_ORDER.get(kind, len(_ORDER)) for statement in statements for kind in statement]
    if order != sorted(order):
        # A counter before a limit counts other packets, a log before it logs other ones.
        raise UnexplainedError("order")
    return line


def words(value: Any) -> List[Any]:
    """Return the members of a value that nft prints alone, as a list, as a set, or joined by ``|``."""
    if isinstance(value, Mapping) and len(value) == 1 and ("set" in value or "|" in value):
        ((_kind, members),) = value.items()
        return [word for member in members for word in words(member)] if "|" in value else list(members)
    if isinstance(value, list):
        return value
    return [] if value == 0 else [value]


def named_set(kind: str, item: Mapping[str, Any]) -> NamedSet:
    """Return a set or map of ours from its listing."""
    family = {text: family for family, text in ADDRESS.items()}.get(item["type"])
    flags = words(item.get("flags", []))
    if family is None:
        raise UnexplainedError(item["type"])
    if item.get("timeout") and item.get("size") == LIMIT_SIZE and kind == "set":
        return NamedSet(item["name"], family, memory=item["timeout"])
    if flags != ["interval"] or not set(item) <= {"family", "name", "table", "type", "handle", "flags", "elem", "map"}:
        raise UnexplainedError(item["name"])
    elements = item.get("elem", [])
    if kind == "map":
        return NamedSet(item["name"], family, branches=_branches(elements, family))
    return NamedSet(item["name"], family, merge(_range(element, family) for element in elements))


def _branches(elements: List[Any], family: str) -> Tuple[Tuple[Range, str], ...]:
    return tuple(sorted((_range(key, family), _own_chain(verdict["jump"])) for key, verdict in elements))


def _own_chain(jump: Mapping[str, str]) -> str:
    if not jump["target"].startswith("own/"):
        raise UnexplainedError(jump["target"])
    return jump["target"][len("own/") :]


def _range(element: Any, family: str) -> Range:
    if isinstance(element, str):
        return _network(element, family)
    ((kind, value),) = element.items()
    if kind == "prefix":
        first, _same = _network(value["addr"], family)
        return first, first | (1 << ((32 if family == "ipv4" else 128) - value["len"])) - 1
    if kind == "range":
        return _network(value[0], family)[0], _network(value[1], family)[0]
    raise UnexplainedError(kind)


def _network(text: str, family: str) -> Range:
    _family, found = parse_network(text)
    if (":" in text) != (family == "ipv6"):
        raise UnexplainedError(text)
    return found


def _counter(line: Line, name: Any) -> None:
    if line.counter is not None or not isinstance(name, str):
        raise UnexplainedError("counter")
    line.counter = name


def _verdict(action: str) -> Callable[[Line, Any], None]:
    return lambda line, _value: line.put("action", action)


def _jump(line: Line, value: Any) -> None:
    line.put("action", "jump")
    line.put("target", _own_chain(value))


def _reject(line: Line, value: Any) -> None:
    value = value or {"type": "icmpx", "expr": "port-unreachable"}
    line.put("action", "reject")
    if value["type"] in ("icmp", "icmpv6") and value["expr"] == "port-unreachable":
        # What nft makes of its own listing: of icmpx, which it leaves out where the rule is about one family.
        value = {**value, "type": "icmpx"}
    line.put("reject_with", REJECTED_WITH[" ".join(value[key] for key in ("type", "expr") if key in value)])


def _log(line: Line, value: Any) -> None:
    if not set(value) <= {"prefix", "group"}:
        raise UnexplainedError("log")
    line.put("log", Log(value["prefix"], value.get("group")))


def _limit(line: Line, value: Any) -> None:
    line.put("limit", _as_limit(value, "none"))


def _as_limit(value: Any, per: str) -> Limit:
    if not set(value) <= {"rate", "burst", "per", "inv", "rate_unit"} or value.get("rate_unit", "packets") != "packets":
        raise UnexplainedError("limit")
    mode = "over" if value.get("inv") else "under"
    return Limit(value["rate"], value["per"], value["burst"], per, mode)


def _limit_by_address(line: Line, value: Any) -> None:
    if value["op"] != "update" or len(value["stmt"]) != 1 or not line.named(value["set"]).memory:
        raise UnexplainedError("set")
    per = _address_key(line, value["elem"])
    line.put("limit", _as_limit(value["stmt"][0]["limit"], per))


def _address_key(line: Line, expression: Any) -> str:
    payload = expression["payload"]
    line.of_family(FAMILY_OF[payload["protocol"]])
    return {"saddr": "source", "daddr": "destination"}[payload["field"]]


def _vmap(line: Line, value: Any) -> None:
    selector = _address_key(line, value["key"])
    data = value["data"]
    family = str(line.family)
    branches = line.named(data).branches if isinstance(data, str) else _branches(words(data), family)
    line.put("action", "dispatch")
    line.put("dispatch", (selector, branches))


def _match(line: Line, value: Any) -> None:
    left, operator, right = value["left"], value["op"], value["right"]
    ((kind, about),) = left.items()
    if kind == "fib":
        _fib(line, about, operator, right)
    elif kind == "&":
        _flags(line, about, operator, right)
    else:
        key = about["key"] if "key" in about else f"{about['protocol']} {about['field']}"
        _match_value(line, f"{kind} {key}", operator, right)


def _match_value(line: Line, key: str, operator: str, right: Any) -> None:
    protocol, _blank, name = key[len("payload ") :].partition(" ")
    if key == "payload tcp flags" and operator == "!":
        line.of_protocol("tcp")
        line.put("tcp_flags", TcpFlags(tuple(sorted(words(right)))))
    elif operator not in {"ct state": ("in",), "meta time": ("<",)}.get(key, ("==",)):
        raise UnexplainedError(operator)
    elif key in _KEYS:
        _KEYS[key](line, right)
    elif key.startswith("payload ip") and name in ("saddr", "daddr"):
        _addresses(line, FAMILY_OF[protocol], "source" if name == "saddr" else "destination", right)
    elif key.startswith("payload ") and name in ("sport", "dport"):
        _ports(line, protocol, "source_ports" if name == "sport" else "destination_ports", right)
    else:
        raise UnexplainedError(key)


def _addresses(line: Line, family: str, option: str, right: Any) -> None:
    line.of_family(family)
    if isinstance(right, str) and right.startswith("@"):
        line.put(option, line.named(right).ranges)
    else:
        line.put(option, merge(_range(item, family) for item in words(right)))


def _ports(line: Line, protocol: str, option: str, right: Any) -> None:
    line.of_protocol(protocol)
    members = right["set"] if isinstance(right, Mapping) and "set" in right else [right]
    texts = ["-".join(str(end) for end in m["range"]) if isinstance(m, Mapping) else m for m in members]
    line.put(option, parse_ports(texts))


def _icmp_types(protocol: str, family: str) -> Callable[[Line, Any], None]:
    def parse(line: Line, right: Any) -> None:
        line.of_family(family)
        line.of_protocol(protocol)
        line.put("icmp_type", tuple(sorted(parse_icmp_type(item, protocol) for item in _members(right))))

    return parse


def _members(right: Any) -> List[Any]:
    """Return what a match is about, one or a set of it; unlike flags, a number 0 is a value here."""
    return list(right["set"]) if isinstance(right, Mapping) else [right]


def _protocol(line: Line, right: Any) -> None:
    protocol = parse_protocol(right)
    if protocol in ("icmp", "icmpv6"):
        # nft does not list the family match before these, as one follows from the other.
        line.of_family("ipv4" if protocol == "icmp" else "ipv6")
    line.of_protocol(protocol)


def _fib(line: Line, about: Any, operator: str, right: Any) -> None:
    flags = sorted(words(about["flags"]))
    if about["result"] == "type" and flags in (["saddr"], ["daddr"]) and operator in ("==", "!="):
        option = "source_type" if flags == ["saddr"] else "destination_type"
        line.put(option, AddressType(right, operator == "!="))
    elif about["result"] == "oif" and operator == "==" and right is False and flags in (["iif", "saddr"], ["saddr"]):
        line.put("reverse_path", "strict" if "iif" in flags else "loose")
    else:
        raise UnexplainedError("fib")


def _flags(line: Line, operands: Any, operator: str, right: Any) -> None:
    if operator != "==" or operands[0] != {"payload": {"protocol": "tcp", "field": "flags"}}:
        raise UnexplainedError("&")
    mask = [word for operand in operands[1:] for word in words(operand)]
    line.of_protocol("tcp")
    line.put("tcp_flags", TcpFlags(tuple(sorted(mask)), tuple(sorted(words(right)))))


def _family(line: Line, right: Any) -> None:
    if right not in ADDRESS:
        raise UnexplainedError(right)
    line.of_family(right)


def _time(line: Line, right: Any) -> None:
    line.put("expires", timegm(strptime(right, "%Y-%m-%d %H:%M:%S")))


def _strings(option: str) -> Callable[[Line, Any], None]:
    return lambda line, right: line.put(option, tuple(sorted(str(item) for item in _members(right))))


# In which order rendering writes the statements of a line; a verdict comes last.
_ORDER = {"match": 0, "limit": 1, "set": 1, "counter": 2, "log": 3}

_STATEMENTS: Dict[str, Callable[[Line, Any], None]] = {
    "match": _match,
    "counter": _counter,
    "log": _log,
    "limit": _limit,
    "set": _limit_by_address,
    "accept": _verdict("accept"),
    "drop": _verdict("drop"),
    "return": _verdict("return"),
    "jump": _jump,
    "reject": _reject,
    "vmap": _vmap,
}

_KEYS: Dict[str, Callable[[Line, Any], None]] = {
    "meta nfproto": _family,
    "meta l4proto": _protocol,
    "meta iifname": _strings("in_interface"),
    "meta oifname": _strings("out_interface"),
    "meta skuid": _strings("uid_owner"),
    "meta skgid": _strings("gid_owner"),
    "meta time": _time,
    "ct state": lambda line, right: line.put("ctstate", tuple(sorted(words(right)))),
    "ct direction": lambda line, right: line.put("ct_direction", right),
    "payload icmp type": _icmp_types("icmp", "ipv4"),
    "payload icmpv6 type": _icmp_types("icmpv6", "ipv6"),
}
