# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of users and groups in rules, as the numbers that the kernel knows. Private to this collection."""

from __future__ import annotations

import grp
import pwd
from dataclasses import replace
from typing import Callable, Optional, Tuple

from ansible_collections.palisade.egress.plugins.module_utils._errors import RuleError
from ansible_collections.palisade.egress.plugins.module_utils._model import Rule, Ruleset


def resolve_owners(ruleset: Ruleset) -> Ruleset:
    """Return the ruleset with this host's numbers for users and groups; raises ``RuleError`` for unknown ones."""
    return Ruleset(
        tuple(replace(chain, rules=tuple(_resolve(rule) for rule in chain.rules)) for chain in ruleset.chains)
    )


def _resolve(rule: Rule) -> Rule:
    if rule.uid_owner is None and rule.gid_owner is None:
        return rule
    users = _numbers(rule, "uid_owner", rule.uid_owner, lambda name: pwd.getpwnam(name).pw_uid)
    groups = _numbers(rule, "gid_owner", rule.gid_owner, lambda name: grp.getgrnam(name).gr_gid)
    return replace(rule, uid_owner=users, gid_owner=groups)


def _numbers(
    rule: Rule, option: str, names: Optional[Tuple[str, ...]], number_of: Callable[[str], int]
) -> Optional[Tuple[str, ...]]:
    if names is None:
        return None
    numbers = set()
    for name in names:
        try:
            numbers.add(int(name) if name.isdigit() else number_of(name))
        except KeyError:
            where = f"rule {rule.name!r} in {rule.chain}.{option}"
            raise RuleError(where, f"this host does not know {name!r}", "create it first, or give its number") from None
    return tuple(sorted(str(number) for number in numbers))
