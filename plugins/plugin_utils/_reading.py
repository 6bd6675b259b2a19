# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Readers of plain data that tell where a value is wrong and how to mend it. Private to this collection."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.module_utils._values import BadValueError

T = TypeVar("T")

# Names of the user's own services, networks, profiles and forbids become parts of rule names.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_SHOWN = 60
_MANY = 8


@dataclass(frozen=True)
class Place:
    """Where a value stands: a variable with the path into it, and a host that shows it (none: fleet-wide)."""

    path: str
    host: str | None = None

    def key(self, name: object) -> Place:
        """Return the place of a key of the mapping here."""
        return replace(self, path=f"{self.path}.{shown_name(name)}")

    def item(self, index: int) -> Place:
        """Return the place of an element of the list here."""
        return replace(self, path=f"{self.path}[{index}]")

    def __str__(self) -> str:
        return self.path if self.host is None else f"{self.path} on host {self.host}"

    def fail(self, what: str, mend: str) -> NoReturn:
        """Raise the error that what stands here is wrong."""
        raise PolicyError(str(self), what, mend)


def shown_name(name: object) -> str:
    """Return a key as it may stand in a message: on one line, not endless."""
    text = name if isinstance(name, str) else repr(name)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def shown(value: object) -> str:
    """Return a scalar as it may stand in a message, quoted; of anything else its kind."""
    if isinstance(value, str):
        return f"'{shown_name(value)}'"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"the number {shown_name(repr(value))}"
    return kind(value)


def kind(value: object) -> str:
    """Return what a person would call this value."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


def guess(name: object, known: Iterable[str], prefix: str = "") -> str:
    """Return the question whether the nearest known name was meant, or nothing if none is near."""
    close = difflib.get_close_matches(str(name), sorted(known), n=5)
    if not close:
        return ""
    letters = sorted(str(name))  # swapped letters are the commonest slip, and difflib does not know it
    meant = next((candidate for candidate in close if sorted(candidate) == letters), close[0])
    return f"Did you mean '{prefix}{meant}'? "


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the question whether the nearest known name was meant, or else the names if they are few."""
    names = sorted(known)
    return guess(name, names) or (f"Known are {', '.join(names)}. " if 0 < len(names) <= _MANY else "")


def read_mapping(value: Any, place: Place, *, keys: Collection[str] = (), example: str) -> Mapping[str, Any]:
    """Return a mapping with text keys, only those in ``keys`` where any are given."""
    if not isinstance(value, dict):
        place.fail(f"{shown(value)} stands where a mapping belongs", f"Write it like {example}")
    for key in value:
        if not isinstance(key, str) or not key:
            place.fail(f"the key {shown(key)} is not a name", "Keys are text; put it in quotes")
        if keys and key not in keys:
            place.fail(f"unknown key '{shown_name(key)}'", f"{nearest(key, keys)}Write it like {example}")
    return value


def demand(options: Mapping[str, Any], place: Place, keys: Iterable[str], *, of: str, example: str) -> None:
    """Refuse a mapping that lacks one of these keys; ``of`` says what it is."""
    for key in keys:
        if key not in options:
            place.fail(f"the {of} has no '{key}'", f"Write it like {example}")


def read_list(value: Any, place: Place, *, example: str) -> list[Any]:
    """Return a list, perhaps empty."""
    if not isinstance(value, list):
        place.fail(f"{shown(value)} stands where a list belongs", f"Write it like {example}")
    return value


def read_some(value: Any, place: Place, *, example: str) -> list[Any]:
    """Return a list of at least one element; a single one may stand alone."""
    items = value if isinstance(value, list) else [value]
    if not items:
        place.fail("an empty list", f"Write it like {example}; nothing never means all")
    return items


def read_text(value: Any, place: Place, *, example: str) -> str:
    """Return text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        what = "empty text" if isinstance(value, str) else shown(value)
        place.fail(f"{what} stands where text belongs", f"Write it like {example}")
    return value


def read_name(value: Any, place: Place) -> str:
    """Return a name that the user gives to something."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        place.fail(
            f"{shown(value)} cannot be a name",
            "Use at most 40 letters, digits, '_', '-' and '.', and begin with a letter or digit",
        )
    return value


def read_choice(value: Any, place: Place, choices: Iterable[str]) -> str:
    """Return one of these words."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        hint = guess(value, choices) if isinstance(value, str) else ""
        place.fail(f"{shown(value)} is not possible here", f"{hint}Write {' or '.join(choices)}")
    return value


def read_flag(value: Any, place: Place) -> bool:
    """Return true or false; text is refused, as 'no' would be true."""
    if not isinstance(value, bool):
        place.fail(f"{shown(value)} stands where true or false belongs", "Write true or false, without quotes")
    return value


def read_number(value: Any, place: Place, low: int, high: int) -> int:
    """Return a whole number within bounds; text that holds one counts, as templates give it."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and re.fullmatch("[0-9]{1,9}", text) and low <= int(text) <= high:
        return int(text)
    place.fail(f"{kind(value)} stands where a number belongs", f"Write one from {low} to {high}")


def read_by(parse: Callable[[Any], T], value: Any, place: Place) -> T:
    """Return what a parser of the data contract makes of this value."""
    try:
        return parse(value)
    except BadValueError as bad:
        place.fail(bad.what, bad.mend[:1].upper() + bad.mend[1:])
