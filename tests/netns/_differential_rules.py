# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rulesets that packets of the small world can match, and packets at the edges of what their rules match."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import count
from random import Random
from typing import Any

from netns._differential_packets import FLAG_BITS, Sent, flow, icmp_number, journey, number, with_history

from ansible_collections.palisade.egress.plugins.module_utils._chain_checks import targets
from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, Addresses, Rule, Ruleset
from ansible_collections.palisade.egress.plugins.module_utils._options import ADDRESS_TYPES, CTSTATES, REJECTS
from ansible_collections.palisade.egress.plugins.module_utils._values import ICMP_TYPES, ICMPV6_TYPES, address_text

Plain = dict[str, Any]

# Nothing else is ever sent to or from: documentation addresses, and those that no router passes on.
SCOPE = {
    "ipv4": ("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/24", "255.255.255.255/32", "0.0.0.0/32", "127.0.0.0/8"),
    "ipv6": ("2001:db8::/32", "fe80::/64", "ff02::/120", "ff02::1:ff00:0/120", "::/127"),
}
# Where packets mostly go and come from, and where much begins or ends.
LANDMARKS = {
    "ipv4": ("198.51.100.1", "198.51.100.2", "198.51.100.77", "198.51.100.127", "198.51.100.128", "198.51.100.200",
             "198.51.100.230", "203.0.113.1", "203.0.113.9", "203.0.113.127", "203.0.113.130", "203.0.113.200",
             "203.0.113.230", "203.0.113.250", "224.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "127.0.0.1"),
    "ipv6": ("2001:db8:1::", "2001:db8:1::1", "2001:db8:1::7", "2001:db8:2::1", "2001:db8:2::9", "2001:db8:3::3",
             "2001:db8:4::4", "2001:db8:5::5", "2001:db8:6::6", "2001:db8:7::7", "2001:db8:8::8", "fe80::1",
             "fe80::99", "ff02::1", "ff02::5", "ff02::1:ff00:1", "::", "::1"),
}  # fmt: skip
LENGTHS = {"ipv4": (0, 4, 23, 24, 25, 26, 27, 30, 31, 32), "ipv6": (0, 8, 16, 32, 46, 47, 48, 64, 112, 127, 128)}
PORTS = (0, 1, 22, 25, 53, 80, 443, 1023, 1024, 5432, 8000, 8010, 65534, 65535)
PROTOCOLS = (
    "tcp",
    "tcp",
    "tcp",
    "udp",
    "udp",
    "icmp",
    "icmpv6",
    "sctp",
    "dccp",
    "udplite",
    "gre",
    "esp",
    "ah",
    "igmp",
    "253",
)
WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
OWNERS = (0, 33, 1000, 1001)
INTERFACES = ("left", "right", "lo", "eth9")
EXPIRES = ("1970-01-01T00:00:01Z", "2001-09-09T01:46:40Z", "2199-12-31T23:59:59Z", "2262-01-01T00:00:00Z")
PRIORITIES = ("raw", "mangle", "filter", "security", -400, -250, -199, 1, 299)
MANY = 12
# How often to aim a packet at rules before one is sent that may miss them all.
AIMS = 100


class Rulesets:
    """Makes rulesets, as plain data of the contract, from a source of randomness."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def chance(self, share: float) -> bool:
        """Come true so often."""
        return self.random.random() < share

    def some(self, words: Any, most: int = 3) -> list[Any]:
        """Choose one to ``most`` different words."""
        words = sorted(set(words), key=repr)
        return self.random.sample(words, self.random.randint(1, min(most, len(words))))

    def ruleset(self) -> tuple[list[Plain], dict[str, Plain]]:
        """Return ``(rules, chains)``: up to four base chains, and own chains up to three jumps deep."""
        bases = self.some(BASE_CHAINS, 4)
        chains = {name: self.declaration(name) for name in bases if self.chance(0.8)}
        levels = [bases]
        entrances = {name: {name} for name in bases}
        rules: list[Plain] = []
        for depth in range(self.random.choice((0, 1, 1, 3, 3))):
            own = [f"own{depth}_{number}" for number in range(self.random.randint(1, 3))]
            entrances |= {name: set() for name in own}
            rules += self.links(levels[-1], own, entrances)
            levels.append(own)
        for name in (name for level in levels for name in level):
            rules += [self.rule(name, entrances[name]) for _ in range(self.random.randint(1, 6))]
        self.random.shuffle(rules)
        return [{**rule, "name": f"{rule['chain']}/{index}"} for index, rule in enumerate(rules)], chains

    def links(self, parents: list[str], own: list[str], entrances: dict[str, set[str]]) -> list[Plain]:
        """Return rules of the level above that lead to each of these chains."""
        rules = []
        for target in own:
            for parent in self.some(parents, 2):
                entrances[target] |= entrances[parent]
                found = self.matches(entrances[parent], few=True)
                if self.chance(0.4):
                    rules.append({"chain": parent, **self.dispatch(found, target)})
                else:
                    rules.append({"chain": parent, **found, "action": "jump", "target": target})
        return rules

    def dispatch(self, found: Plain, target: str) -> Plain:
        """Return the options of a rule that dispatches to one chain: from few branches, or from a map."""
        family = found.get("family", "any")
        families = ("ipv4", "ipv6") if family == "any" else (family,)
        table = {}
        for each in families:
            networks = {self.network(each, 0.9) for _ in range(self.random.choice((1, 3, MANY)))}
            table.update(dict.fromkeys(sorted(networks), target))
        found = {key: value for key, value in found.items() if key not in ("source", "destination")}
        return {**found, "action": "dispatch", "dispatch": {self.random.choice(("source", "destination")): table}}

    def declaration(self, name: str) -> Plain:
        """Return a base chain's default and priority."""
        default = self.random.choice(("accept", "drop", "drop" if name == "prerouting" else "reject"))
        found: Plain = {"default": default}
        if default == "reject" and self.chance(0.7):
            found["reject_with"] = self.random.choice(REJECTS)
        if self.chance(0.5):
            found["priority"] = self.random.choice(PRIORITIES)
        return found

    def rule(self, chain: str, entrances: set[str]) -> Plain:
        """Return a rule that leads nowhere else."""
        found = {"chain": chain, **self.matches(entrances)}
        actions = ["accept", "drop", "log", "log", "reject"]
        if "prerouting" in entrances:
            actions.remove("reject")
        if chain not in BASE_CHAINS:
            actions.append("return")
        found["action"] = self.random.choice(actions)
        if found["action"] == "reject" and self.chance(0.7):
            words = REJECTS if found.get("protocol") == "tcp" else REJECTS[:-1]
            found["reject_with"] = self.random.choice(words)
        if found["action"] == "log" or self.chance(0.1):
            found["log"] = {"prefix": f"palisade {chain[:12]}"}
            if self.chance(0.5):
                found["log"]["group"] = self.random.randint(0, 9)
            if "limit" not in found and self.chance(0.3):
                found["log"]["rate"] = "1/hour"
        return found

    def matches(self, entrances: set[str], few: bool = False) -> Plain:
        """Return what a rule matches: seldom much at once, or no packet ever would."""
        family = self.random.choice(("any", "any", "ipv4", "ipv6"))
        found: Plain = {} if family == "any" else {"family": family}
        families = ("ipv4", "ipv6") if family == "any" else (family,)
        for option in ("source", "destination"):
            if self.chance(0.1 if few else 0.25):
                found[option] = self.addresses(families)
        if self.chance(0.2 if few else 0.5):
            found |= self.protocol(families)
        places = _places(entrances)
        for option in self.some(places, 2) if self.chance(0.3 if few else 0.6) else ():
            found[option] = getattr(self, f"_{option}")()
        if self.chance(0.1):
            found["limit"] = self._limit()
        return found

    def addresses(self, families: tuple[str, ...]) -> list[str]:
        """Return networks, a handful or so many that they need a named set."""
        count = self.random.choice((1, 1, 2, 4, MANY))
        return [self.network(family, 0.4) for family in families for _ in range(count)]

    def network(self, family: str, single: float) -> str:
        """Return a network around some landmark; a single address in so many cases."""
        bits = 32 if family == "ipv4" else 128
        value = number(self.random.choice(LANDMARKS[family])) + self.random.choice((0, 0, 0, 1, -1, 2))
        value = min(max(value, 0), 2**bits - 1)
        length = bits if self.chance(single) else self.random.choice(LENGTHS[family])
        shift = bits - length
        return f"{address_text(value >> shift << shift, family)}/{length}"

    def protocol(self, families: tuple[str, ...]) -> Plain:
        """Return a protocol and what goes with it."""
        word = self.random.choice(PROTOCOLS)
        if {"icmp": "ipv4", "icmpv6": "ipv6"}.get(word, families[0]) not in families:
            word = "tcp"
        found: Plain = {"protocol": word}
        if word in WITH_PORTS:
            for option, share in (("source_ports", 0.2), ("destination_ports", 0.6)):
                if self.chance(share):
                    found[option] = [self.ports() for _ in range(self.random.choice((1, 1, 3, MANY)))]
        if word == "tcp" and self.chance(0.4):
            mask = self.some(FLAG_BITS, 6)
            found["tcp_flags"] = {"mask": mask}
            if self.chance(0.8):
                found["tcp_flags"]["set"] = self.some(mask, 2)
        if word in ("icmp", "icmpv6") and self.chance(0.7):
            known = ICMP_TYPES if word == "icmp" else ICMPV6_TYPES
            found["icmp_type"] = self.some([*known, "echo-request", "destination-unreachable"], 4)
        return found

    def ports(self) -> str:
        """Return a port or a range."""
        ends = sorted(self.random.choice((*PORTS, self.random.randint(0, 65535))) for _ in range(2))
        return str(ends[0]) if self.chance(0.5) else f"{ends[0]}-{ends[1]}"

    def _source_type(self) -> str:
        return self.random.choice(("", "not:")) + self.random.choice((*ADDRESS_TYPES, "local", "unicast", "multicast"))

    _destination_type = _source_type

    def _reverse_path(self) -> str:
        return self.random.choice(("strict", "loose"))

    def _in_interface(self) -> list[str]:
        return self.some(INTERFACES, 2)

    _out_interface = _in_interface

    def _ctstate(self) -> list[str]:
        return self.some(CTSTATES, 2)

    def _ct_direction(self) -> str:
        return self.random.choice(("original", "reply"))

    def _uid_owner(self) -> list[int]:
        return self.some(OWNERS, 2)

    _gid_owner = _uid_owner

    def _expires(self) -> str:
        return self.random.choice(EXPIRES)

    def _limit(self) -> Plain:
        # Refilled so slowly that a bucket that is empty stays empty: what matches is then sure.
        return {
            "rate": f"{self.random.randint(1, 3)}/{self.random.choice(('hour', 'day'))}",
            "burst": self.random.randint(1, 3),
            "per": self.random.choice(("none", "source", "destination")),
            "mode": self.random.choice(("over", "under")),
        }


def _places(entrances: set[str]) -> list[str]:
    places = ["source_type", "destination_type", "ctstate", "ct_direction", "expires"]
    if "output" not in entrances:
        places += ["reverse_path", "in_interface"]
    if entrances <= {"forward", "output"}:
        places.append("out_interface")
    return places + (["uid_owner", "gid_owner"] if entrances == {"output"} else [])


class Packets:
    """Makes packets for a ruleset, each aimed at the edges of one rule and of those that lead to it."""

    def __init__(self, random: Random, ruleset: Ruleset) -> None:
        self.random = random
        self.chains = {chain.name: chain for chain in ruleset.chains}
        self.flows: set[Any] = set()
        self._identity = 0
        self._leads: dict[str, list[Rule]] = {}
        for chain in ruleset.chains:
            for rule in chain.rules:
                for target in targets(rule):
                    self._leads.setdefault(target, []).append(rule)

    def packet(self) -> tuple[Sent, list[Sent]]:
        """Return a packet that its hook will see, and those that have to come before it."""
        for attempt in count():
            sent = self.one(aimed=attempt < AIMS)
            if not in_scope(sent):
                continue
            sent, before = with_history(sent)
            flows = {flow(each) for each in (sent, *before)}
            if journey(sent).hops and not flows & self.flows:
                self.flows |= flows
                return sent, before
        raise AssertionError

    def one(self, aimed: bool) -> Sent:
        """Return a packet aimed at some rule, or at none."""
        choice = self.random.choice
        rules = [rule for chain in self.chains.values() for rule in chain.rules]
        path = self._path(choice(rules)) if rules and aimed else []
        base = path[0].chain if path else choice(list(self.chains) or ["output"])
        families = [rule.family for rule in path if rule.family != "any"]
        family = choice(families or ["ipv4", "ipv6"])
        self._identity += 1
        sent = Sent(
            way="out" if base == "output" else choice(("left", "right", "right")),
            family=family,
            source=self._usual(family, "source", base),
            destination=self._usual(family, "destination", base),
            protocol=choice(("tcp", "udp", "icmp" if family == "ipv4" else "icmpv6")),
            history=choice(("first", "first", "first", "original", "reply", "related")),
            uid=choice(OWNERS),
            gid=choice(OWNERS),
            device=choice(("left", "right")) if base == "output" else "",
            notrack=self.random.random() < 0.05,
            extension=choice((0, 60, 51)) if family == "ipv6" and self.random.random() < 0.1 else None,
            identity=self._identity,
        )
        for rule in path:
            sent = self._aim(sent, rule)
        return self._completed(sent)

    def _path(self, rule: Rule) -> list[Rule]:
        path = [rule]
        while path[0].chain in self._leads:
            path.insert(0, self.random.choice(self._leads[path[0].chain]))
        return path

    def _usual(self, family: str, end: str, base: str) -> int:
        usual = {
            ("ipv4", "input", "destination"): ("198.51.100.1", "203.0.113.1", "224.0.0.1", "198.51.100.127"),
            ("ipv6", "input", "destination"): ("2001:db8:1::1", "2001:db8:2::1", "ff02::1", "2001:db8:1::"),
            ("ipv4", "forward", "destination"): ("198.51.100.77", "203.0.113.9", "203.0.113.130", "198.51.100.130"),
            ("ipv6", "forward", "destination"): ("2001:db8:1::7", "2001:db8:2::9", "2001:db8:3::3", "2001:db8:4::4"),
        }
        words = usual.get((family, base, end), LANDMARKS[family])
        return self._near(number(self.random.choice(words)), 0.9 if base in ("input", "forward") else 0.7)

    def _near(self, value: int, exact: float = 0.7) -> int:
        return value if self.random.random() < exact else max(0, value + self.random.choice((-1, 1, 2, 30)))

    def _aim(self, sent: Sent, rule: Rule) -> Sent:
        """Have the packet match a rule, or just miss it in some way."""
        changes = self._aim_at_ends(sent, rule) | self._aim_at_protocol(sent, rule) | self._aim_at_state(rule)
        for option, field in (("uid_owner", "uid"), ("gid_owner", "gid")):
            owners = getattr(rule, option)
            if owners is not None and self.random.random() < 0.8:
                changes[field] = int(self.random.choice(owners))
        if rule.in_interface is not None and sent.way != "out":
            changes["way"] = self.random.choice([*sorted(set(rule.in_interface) & {"left", "right"}), "left"])
        return replace(sent, **changes)

    def _aim_at_ends(self, sent: Sent, rule: Rule) -> Plain:
        aims = {"source": rule.source, "destination": rule.destination}
        if rule.dispatch is not None:
            branches = Addresses(*(rule.dispatch.addresses(family) for family in ("ipv4", "ipv6")))
            aims[rule.dispatch.selector] = aims[rule.dispatch.selector] or branches
        changes = {}
        for end, addresses in aims.items():
            if addresses and addresses.of(sent.family) and self.random.random() < 0.9:
                value = self._edge(addresses.of(sent.family))
                if _in_scope(value, sent.family):
                    changes[end] = value
        return changes

    def _aim_at_protocol(self, sent: Sent, rule: Rule) -> Plain:
        changes: Plain = {}
        if rule.protocol is not None and self.random.random() < 0.9:
            changes["protocol"] = rule.protocol
        for option in ("source_ports", "destination_ports"):
            ports = getattr(rule, option)
            if ports is not None:
                changes[option[:-1]] = min(self._edge(ports), 65535)
        if rule.tcp_flags is not None:
            flags = {flag for flag in FLAG_BITS if flag in sent.tcp_flags and flag not in rule.tcp_flags.mask}
            changes["tcp_flags"] = self._flipped(flags | set(rule.tcp_flags.set), 0.3)
        if rule.icmp_type is not None:
            changes["icmp_type"] = self.random.choice(rule.icmp_type)
        return changes

    def _aim_at_state(self, rule: Rule) -> Plain:
        wanted = self.random.choice(rule.ctstate or ("",))
        histories = {"new": ["first"], "established": ["original", "reply"], "related": ["related"]}.get(wanted, [])
        if rule.ct_direction == "reply":
            histories = ["reply"]
        changes: Plain = {"history": self.random.choice(histories)} if histories else {}
        if wanted == "related":
            changes |= {"icmp_type": "destination-unreachable", "protocol": "related"}
        return changes | ({"notrack": True} if wanted == "untracked" and self.random.random() < 0.5 else {})

    def _edge(self, ranges: tuple[tuple[int, int], ...]) -> int:
        first, last = self.random.choice(ranges)
        within = self.random.randint(first, last)
        return max(0, self.random.choice((first, last, first, last, first - 1, last + 1, within)))

    def _flipped(self, flags: set[str], share: float) -> tuple[str, ...]:
        if self.random.random() < share:
            flags = flags ^ {self.random.choice(list(FLAG_BITS))}
        return tuple(sorted(flags))

    def _completed(self, sent: Sent) -> Sent:
        """Give the packet what its protocol needs and take away what it does not have."""
        choice = self.random.choice
        own = "icmp" if sent.family == "ipv4" else "icmpv6"
        protocol = own if sent.protocol == "related" else sent.protocol
        if sent.family == "ipv6" and protocol == "ah":
            protocol = "tcp"  # there it is an extension header, and no protocol
        icmp = protocol in ("icmp", "icmpv6")
        ports = {
            end: (
                getattr(sent, end)
                if getattr(sent, end) is not None
                else choice((*PORTS, self.random.randint(0, 65535)))
            )
            if protocol in WITH_PORTS
            else None
            for end in ("source_port", "destination_port")
        }
        flags: tuple[str, ...] = ()
        if protocol == "tcp":
            usual = choice(
                (("syn",), ("syn",), ("ack",), ("ack", "psh"), ("ack", "syn"), ("ack", "fin"), ("ack", "rst"))
            )
            flags = sent.tcp_flags or (usual if self.random.random() < 0.9 else self._flipped(set(usual), 1))
        kind = self._icmp_type(sent, protocol) if icmp else None
        return replace(sent, protocol=protocol, **ports, tcp_flags=flags, icmp_type=kind,
                       identity=sent.identity if icmp else 0)  # fmt: skip

    def _icmp_type(self, sent: Sent, protocol: str) -> str:
        known = ICMP_TYPES if protocol == "icmp" else ICMPV6_TYPES
        words = ("echo-request", "echo-request", "echo-reply", "destination-unreachable", *known)
        if sent.history == "related" and self.random.random() < 0.8:
            words = ("destination-unreachable", "time-exceeded", "parameter-problem")
        if sent.history in ("original", "reply") and self.random.random() < 0.8:
            words = ("echo-request",) if sent.history == "original" else ("echo-reply",)
        given = replace(sent, protocol=protocol, icmp_type=sent.icmp_type or "0")
        if sent.icmp_type is not None and (sent.icmp_type in known or sent.icmp_type.isdigit()):
            return next((word for word, code in known.items() if code == icmp_number(given)), sent.icmp_type)
        return self.random.choice(words)


def _in_scope(value: int, family: str) -> bool:
    bits = 32 if family == "ipv4" else 128
    if not 0 <= value < 2**bits:
        return False
    found = ip_address(value.to_bytes(bits // 8, "big"))
    return any(found in ip_network(prefix) for prefix in SCOPE[family])


def in_scope(sent: Sent) -> bool:
    """Tell whether a packet keeps to the addresses that tests may use."""
    return _in_scope(sent.source, sent.family) and _in_scope(sent.destination, sent.family)
