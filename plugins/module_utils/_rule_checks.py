# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the options of one rule demand of each other. Private to this collection."""

from __future__ import annotations

from typing import Iterator, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import BASE_CHAINS, FAMILIES, Dispatch, Rule
from ansible_collections.palisade.egress.plugins.module_utils._values import PORT_PROTOCOLS

# nft keeps 128 characters of a comment, which has to hold the rule's name, a mark, and the comment.
COMMENT_LENGTH = 128
COMMENT_MARK_LENGTH = 3

Finding = Tuple[bool, str, str, str]


def check(rule: Rule, where: str) -> None:
    """Raise ``RuleError`` for the first option that does not go with another one."""
    for findings in (_action, _protocol, _family, _place, _length):
        for wrong, option, what, mend in findings(rule):
            if wrong:
                raise RuleError(f"{where}.{option}", what, mend)


def _action(rule: Rule) -> Iterator[Finding]:
    for action, option in (("jump", "target"), ("dispatch", "dispatch"), ("log", "log")):
        missing = rule.action == action and getattr(rule, option) is None
        yield missing, option, f"is missing, and action: {action} needs it", "say it, or choose another action"
    for option, value in (("target", rule.target), ("dispatch", rule.dispatch), ("reject_with", rule.reject_with)):
        action = {"target": "jump", "reject_with": "reject"}.get(option, option)
        extra = value is not None and rule.action != action
        yield extra, option, f"goes with action: {action} only", "leave it out, or choose that action"
    yield (
        rule.reject_with == "tcp-reset" and rule.protocol != "tcp",
        "reject_with",
        "tcp-reset answers TCP only",
        "add protocol: tcp, or choose another answer",
    )


def _protocol(rule: Rule) -> Iterator[Finding]:
    for option in ("source_ports", "destination_ports"):
        yield (
            getattr(rule, option) is not None and rule.protocol not in PORT_PROTOCOLS,
            option,
            "needs a protocol that has ports",
            f"set protocol to one of {', '.join(PORT_PROTOCOLS)}",
        )
    no_tcp = rule.tcp_flags is not None and rule.protocol != "tcp"
    yield no_tcp, "tcp_flags", "needs protocol: tcp", "add it, or leave the flags out"
    no_icmp = rule.icmp_type is not None and rule.protocol not in ("icmp", "icmpv6")
    yield no_icmp, "icmp_type", "needs protocol: icmp or icmpv6", "add it, or leave the types out"


def _family(rule: Rule) -> Iterator[Finding]:
    for family in FAMILIES:
        for option in ("source", "destination", "dispatch"):
            members = getattr(rule, option)
            addresses = members.addresses(family) if isinstance(members, Dispatch) else members and members.of(family)
            stranger = bool(addresses) and family not in rule.families
            yield stranger, option, f"has {family} members, but family is {rule.family}", "leave out one or the other"


def _place(rule: Rule) -> Iterator[Finding]:
    into_base = rule.target in BASE_CHAINS
    yield into_base, "target", "a jump goes to a chain of your own", "name another chain than the kernel's own"
    base_return = rule.action == "return" and rule.chain in BASE_CHAINS
    yield base_return, "action", "return is for chains of your own", f"use accept, drop or reject in {rule.chain}"


def _length(rule: Rule) -> Iterator[Finding]:
    length = len(rule.name) + (len(rule.comment) + COMMENT_MARK_LENGTH if rule.comment else 0)
    too_long = length > COMMENT_LENGTH
    mend = f"shorten them: together with a mark of {COMMENT_MARK_LENGTH} they may have {COMMENT_LENGTH} characters"
    yield too_long, "comment" if rule.comment else "name", "name and comment are too long for the kernel", mend
