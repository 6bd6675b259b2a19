# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules that deny packets, and what they log. Private to this collection.

What a policy denies (by a forbid, by a chain's default, by what has expired) passes in audit; what cannot be honest
never does. A line in the log begins with ``egress``, then says what becomes of the packet (``drop``, ``reject``, or
``audit``: it passes), then what decided so, then perhaps the protocol, and a blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from zlib import crc32

from ansible_collections.palisade.egress.plugins.module_utils._codec import DEFAULT_REJECT
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Forbidden, Logging, Settings

Rule = dict[str, Any]

# The kernel takes prefixes of iptables and nftables up to this length.
_PREFIX_LENGTH = 28
_NOT_IN_PREFIXES = re.compile(r"[^A-Za-z0-9_.:/+~-]")
# By protocol what its lines say, and the family that it is of.
_PROTOCOLS = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmp"}
_FAMILY = {"icmp": "ipv4", "icmpv6": "ipv6"}
_OTHER = "other"
_RESET = "tcp-reset"


def deny(
    settings: Settings, chain: str, name: str, what: str, *, base: str = "output", **matches: Any
) -> Iterator[Rule]:
    """Yield the rules that carry out what the policy denies; ``what`` is told in the log.

    ``base`` is the base chain by which packets get to ``chain``.
    """
    rule = {"name": name, "chain": chain, "action": default(settings, base), **matches}
    yield from _logged(_log(settings, base), rule, _verb(settings, base), what, settings.reject_with)


def forbid(settings: Settings, chain: str, name: str, forbidden: Forbidden, **matches: Any) -> Iterator[Rule]:
    """Yield the rules that carry out a forbid, which may choose what becomes of what it stops."""
    declared = forbidden.forbid
    chosen = replace(
        settings,
        default_verdict=declared.verdict or settings.default_verdict,
        reject_with=declared.reject_with or settings.reject_with,
    )
    yield from deny(chosen, chain, name, forbidden.origin, **matches)


def refuse_spoofed(settings: Settings, base: str, **matches: Any) -> Iterator[Rule]:
    """Yield the rules that drop packets with addresses that are not true.

    All packets meet these: the address is looked up once, and only what is dropped goes on to where it is logged.
    """
    name = "always/spoofed-source"
    if _log(settings, base):
        chain = f"spoofed_{base}"
        yield {"name": name, "chain": base, "action": "jump", "target": chain, **matches}
        yield from refuse(settings, base, name, "spoofed", into=chain)
    else:
        yield from refuse(settings, base, name, "spoofed", **matches)


def refuse(
    settings: Settings, base: str, name: str, what: str, *, into: str | None = None, **matches: Any
) -> Iterator[Rule]:
    """Yield the rules that drop what cannot be honest, in audit, too."""
    rule = {"name": name, "chain": into or base, "action": "drop", **matches}
    yield from _logged(_log(settings, base), rule, "drop", what)


def default(settings: Settings, base: str) -> str:
    """Return what becomes of packets that no rule of a base chain is about."""
    if settings.is_audit or (base == "input" and settings.input != "closed"):
        return "accept"
    return settings.default_verdict


def base_chain(settings: Settings, base: str) -> dict[str, str]:
    """Return the options of a base chain."""
    verdict = default(settings, base)
    return {"default": verdict, **({"reject_with": settings.reject_with} if verdict == "reject" else {})}


def log_default(settings: Settings, base: str) -> Iterator[Rule]:
    """Yield the rules that log what is left to a chain's default, which cannot log by itself."""
    log, name, verb = _log(settings, base), "always/log", _verb(settings, base)
    if log is None:
        return
    if not log.protocols:
        yield from _logged(log, {"name": name, "chain": base, "action": "log"}, verb, base)
        return
    # One line a packet: what is logged for its protocol returns before it is logged as other.
    yield {"name": name, "chain": base, "action": "jump", "target": f"log_{base}"}
    yield from _logged(log, {"name": name, "chain": f"log_{base}", "action": "return"}, verb, base)


def _verb(settings: Settings, base: str) -> str:
    return "audit" if settings.is_audit else default(settings, base)


def _log(settings: Settings, base: str) -> Logging | None:
    return settings.log if settings.log is not None and base in settings.log.chains else None


def _logged(log: Logging | None, rule: Rule, verb: str, what: str, reply: str = "") -> Iterator[Rule]:
    """Yield a rule that logs and perhaps replies, or one for each protocol that has a prefix or reply of its own."""
    tells = log is not None and log.protocols
    reply = reply if rule["action"] == "reject" else ""
    apart = _PROTOCOLS if tells else ("tcp",) if reply == _RESET else ()
    group = {} if log is None or log.group is None else {"group": log.group}
    for protocol, narrowed in _by_protocol(rule, apart):
        answered = {**narrowed, "reject_with": _reply(narrowed, reply)} if reply else narrowed
        prefix = log_prefix(verb, what, protocol if tells else "")
        yield answered if log is None else {**answered, "log": {"prefix": prefix, **group, "rate": log.rate}}


def _reply(rule: Rule, reply: str) -> str:
    """Return what a rule answers with: a reset is for TCP only."""
    return DEFAULT_REJECT if reply == _RESET and rule.get("protocol") != "tcp" else reply


def _by_protocol(rule: Rule, apart: Iterable[str]) -> Iterator[tuple[str, Rule]]:
    """Yield a rule by the protocols that are to be told apart, the rest last."""
    if "protocol" in rule:
        yield _PROTOCOLS.get(rule["protocol"], _OTHER), rule
        return
    for protocol in apart:
        word = _PROTOCOLS[protocol]
        if rule.get("family") in (None, _FAMILY.get(protocol, rule.get("family"))):
            yield word, {**rule, "name": f"{rule['name']}/{protocol}", "protocol": protocol}
    yield _OTHER, rule


def log_prefix(verb: str, what: str, protocol: str = "") -> str:
    """Return what a line in the log begins with."""
    end = f" {protocol} " if protocol else " "
    start = f"egress {verb} "
    return start + _fitted(what, _PREFIX_LENGTH - len(start) - len(end)) + end


def _fitted(what: str, room: int) -> str:
    """Return a name as it is, or cut, with a digest of all of it that keeps it apart from others cut alike."""
    plain = _NOT_IN_PREFIXES.sub("_", what)
    if plain == what and len(what) <= room:
        return what
    digest = f"~{crc32(what.encode()) & 0xFFFF:04x}"
    return plain[: room - len(digest)] + digest
