# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which jump hosts ssh is told to go through. Pure. Private to this collection."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

# Options of ssh that have a value, in the next word or behind the letter.
_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
_NAMING = re.compile(r"-[A-Za-z0-9]*J|proxyjump|proxycommand", re.IGNORECASE)
_SETTING = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)", re.DOTALL)
_BRACKETED = re.compile(r"\[([^\]]+)\](?::([0-9]+))?")
_PLAIN = re.compile(r"([^:]+)(?::([0-9]+))?")
_MOST = 65535


@dataclass(frozen=True)
class Hop:
    """A jump host as ssh is told of it; ``port`` is None where it is told none."""

    host: str
    port: int | None = None


def names_jumps(arguments: str) -> bool:
    """Tell whether arguments of ssh may name a jump host; a template may stand in them."""
    return bool(_NAMING.search(arguments))


@lru_cache(maxsize=1024)
def jumps(arguments: str) -> tuple[Hop, ...] | None:
    """Return the jump hosts in arguments of ssh, nearest first; None if they say nothing, () if they say none.

    Raises ``ValueError`` for what ssh could not read.
    """
    return _first_jumps(_options(shlex.split(arguments)))


def _first_jumps(options: Iterable[tuple[str, str]]) -> tuple[Hop, ...] | None:
    """Return the jump hosts of the first option that is about them, as ssh heeds no other; None if there is none."""
    return next((found for option in options if (found := _jumps_of(option)) is not None), None)


def _jumps_of(option: tuple[str, str]) -> tuple[Hop, ...] | None:
    """Return the jump hosts of an option; None of one that is not about them."""
    letter, value = option
    name, text = ("proxyjump", value) if letter == "J" else _setting(value) if letter == "o" else ("", "")
    if name not in ("proxyjump", "proxycommand"):
        return None
    if text.lower() == "none":
        return ()
    return _of_list(text) if name == "proxyjump" else _of_command(text)


def _options(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the options with their values; a word that is none has no letter."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            yield "", word
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in _WITH_VALUE:
                yield letter, word[at:] or next(rest, "")
                break


def _setting(text: str) -> tuple[str, str]:
    """Return name and value of what stands behind ``-o``."""
    found = _SETTING.fullmatch(text)
    return (found[1].lower(), found[2].strip().strip('"')) if found else ("", "")


def _of_list(text: str) -> tuple[Hop, ...]:
    return tuple(_hop(each.strip()) for each in text.split(",") if each.strip())


def _of_command(text: str) -> tuple[Hop, ...]:
    """Return the jump hosts of a command that is ssh to one, be it with ``-W`` or with nc there.

    Any other command (connect-proxy, a cloud's own) names no host that logs in anywhere.
    """
    words = shlex.split(text)
    at = next((n for n, word in enumerate(words) if word.rpartition("/")[2] == "ssh"), None)
    if at is None or "%h" not in text:
        return ()
    host, options = "", []
    for letter, value in _options(words[at + 1 :]):
        if host and not letter:
            break  # here begins what runs there
        options.append((letter, value))
        host = host or ("" if letter else value)
    if not host:
        return ()
    before = _first_jumps(options)
    port = next((port for port in map(_port_of, options) if port), "")
    last = _hop(host)
    return (*(before or ()), Hop(last.host, last.port or _port(port)))


def _port_of(option: tuple[str, str]) -> str:
    letter, value = option
    if letter == "o":
        name, value = _setting(value)
        return value if name == "port" else ""
    return value if letter == "p" else ""


def _hop(text: str) -> Hop:
    """Return what ``[user@]host[:port]`` or an ssh:// URI names; a bare IPv6 address has no port."""
    where = text.removeprefix("ssh://").rstrip("/").rpartition("@")[2]
    found = _BRACKETED.fullmatch(where) or _PLAIN.fullmatch(where)
    return Hop(found[1], _port(found[2])) if found else Hop(where)


def _port(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) <= _MOST):
        raise ValueError(f"'{text}' is no port")
    return int(text)
