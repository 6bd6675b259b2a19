# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads grants, forbids, accepts, waivers, probes and profiles. Private to this collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._options import PARSERS, REJECTS
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import PARSERS as PROBE_PARSERS
from ansible_collections.palisade.egress.plugins.module_utils._values import format_time, parse_rate, parse_time
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import (
    Accept,
    Forbid,
    Grant,
    Probe,
    Profile,
    RateLimit,
    Service,
    Term,
    Waiver,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._profiles import BASE, PROFILES
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import (
    Place,
    demand,
    nearest,
    read_by,
    read_choice,
    read_flag,
    read_list,
    read_mapping,
    read_name,
    read_some,
    read_text,
    shown,
)
from ansible_collections.palisade.egress.plugins.plugin_utils._services import EXAMPLE as SERVICE
from ansible_collections.palisade.egress.plugins.plugin_utils._services import find_service, ways
from ansible_collections.palisade.egress.plugins.plugin_utils._terms import Vocabulary, read_terms

GRANT = "{service: https, to: mirrors}"
FORBID = "smtp or {service: dns, to: any, except: resolvers}"
# What may become of packets that a policy denies.
VERDICTS = ("drop", "reject")
ACCEPT = "{service: ssh, from: group:bastion}"
PROFILE = f"{{groups: [mail], grants: [{GRANT}], forbids: [smtp]}}"
WAIVER = (
    '{forbid: web/smtp, service: smtp, to: relays, reason: ticket 4711, owner: ops, expires: "2027-01-31T00:00:00Z"}'
)
PROBE = "{service: https, to: mirrors, expect: reachable}"
_GRANT_KEYS = ("service", "to", "interface", "user", "group", "containers", "limit", "expires", "reason")
_FORBID_KEYS = ("name", "service", "to", "except", "verdict", "reject_with")
_ACCEPT_KEYS = ("service", "from", "interface", "containers", "limit", "expires", "reason")
_WAIVER_KEYS = ("forbid", "service", "to", "reason", "owner", "expires")
_PROBE_KEYS = ("service", "to", "expect", "name", "timeout", "query")
_PROFILE_KEYS = ("groups", "grants", "forbids", "accepts", "probes")
# The longest burst of the data contract.
_MOST_BURST = 65535
# Those of times that may be moved from zone to zone.
_YEARS = range(1971, 9999)
_ANY = (Term("any", "any"),)


@dataclass(frozen=True)
class Bound:
    """How far ahead a waiver may expire: at ``latest``, ``days`` from now."""

    latest: str
    days: int


@dataclass(frozen=True)
class Language:
    """All names that a declaration may use."""

    services: Mapping[str, Service]
    words: Vocabulary


def refuse(place: Place, what: str) -> None:
    """Refuse what the design knows and this version cannot do: nothing is ever ignored."""
    place.fail(f"{what} is not supported by this version", "Take it out")


def read_grants(value: Any, place: Place, label: str, language: Language) -> tuple[Grant, ...]:
    """Return the grants of a list."""
    items = read_list(value, place, example=f"[{GRANT}]")
    return tuple(_read_grant(item, place.item(index), label, language) for index, item in enumerate(items))


def _read_grant(value: Any, place: Place, label: str, language: Language) -> Grant:
    options = read_mapping(value, place, keys=_GRANT_KEYS, example=GRANT)
    demand(options, place, ("service", "to"), of="grant", example=GRANT)
    grant = Grant(
        place,
        label,
        find_service(options["service"], place.key("service"), language.services),
        read_terms(options["to"], place.key("to"), language.words),
        interface=_read_words(options, "interface", "out_interface", place),
        user=_read_words(options, "user", "uid_owner", place),
        group=_read_words(options, "group", "gid_owner", place),
        containers=_read_containers(options, place),
        limit=_read_limit(options, place),
        expires=_read_end(options, place),
        reason=_read_reason(options, place),
    )
    if grant.service.needs_interface and not grant.interface:
        place.fail(f"a grant of {grant.service.name} must name an interface", "Add it like interface: eth0")
    for key, owner in (("user", grant.user), ("group", grant.group)):
        if owner and grant.containers:
            what = "the host cannot tell who in a container sends a packet"
            place.key(key).fail(what, "Take it out, or take out 'containers' and grant it to the host's own users")
    return grant


def read_accepts(value: Any, place: Place, label: str, language: Language) -> tuple[Accept, ...]:
    """Return the accepts of a list."""
    items = read_list(value, place, example=f"[{ACCEPT}]")
    return tuple(_read_accept(item, place.item(index), label, language) for index, item in enumerate(items))


def _read_accept(value: Any, place: Place, label: str, language: Language) -> Accept:
    options = read_mapping(value, place, keys=_ACCEPT_KEYS, example=ACCEPT)
    demand(options, place, ("service", "from"), of="accept", example=ACCEPT)
    accept = Accept(
        place,
        label,
        find_service(options["service"], place.key("service"), language.services),
        read_terms(options["from"], place.key("from"), language.words),
        interface=_read_words(options, "interface", "in_interface", place),
        containers=_read_containers(options, place),
        limit=_read_limit(options, place),
        expires=_read_end(options, place),
        reason=_read_reason(options, place),
    )
    if accept.service.needs_interface and not accept.interface:
        place.fail(f"an accept of {accept.service.name} must name an interface", "Add it like interface: eth0")
    return accept


def _read_words(options: Mapping[str, Any], key: str, option: str, place: Place) -> tuple[str, ...]:
    """Return one or several names that an option of the data contract takes."""
    if key not in options:
        return ()
    words = read_some(options[key], place.key(key), example=f"{key}: NAME")
    return tuple(read_by(PARSERS[option], words, place.key(key)))


def _read_containers(options: Mapping[str, Any], place: Place) -> bool:
    return "containers" in options and read_flag(options["containers"], place.key("containers"))


def _read_limit(declared: Mapping[str, Any], place: Place) -> RateLimit | None:
    """Return a limit: a rate, or a rate with burst and per. New flows over it are not let through."""
    if "limit" not in declared:
        return None
    value, place = declared["limit"], place.key("limit")
    example = "20/second or {rate: 20/second, burst: 40, per: destination}"
    options = read_mapping(
        {"rate": value} if isinstance(value, str) else value, place, keys=("rate", "burst", "per"), example=example
    )
    if "rate" not in options:
        place.fail("it has no rate", f"Write it like {example}")
    amount, unit = read_by(parse_rate, options["rate"], place.key("rate"))
    burst = options.get("burst")
    if "burst" in options and (not isinstance(burst, int) or isinstance(burst, bool) or not 0 < burst <= _MOST_BURST):
        place.key("burst").fail("not a number of packets", f"Write a number from 1 to {_MOST_BURST}")
    per = read_choice(options.get("per", "none"), place.key("per"), ("none", "source", "destination"))
    return RateLimit(f"{amount}/{unit}", burst, per)


def _read_end(options: Mapping[str, Any], place: Place) -> str | None:
    return _read_time(options["expires"], place.key("expires")) if "expires" in options else None


def _read_reason(options: Mapping[str, Any], place: Place) -> str:
    return read_text(options["reason"], place.key("reason"), example="ticket 4711") if "reason" in options else ""


def _read_time(value: Any, place: Place) -> str:
    """Return a time in UTC as the data contract writes it; YAML makes a datetime of one without quotes."""
    if isinstance(value, datetime) and value.tzinfo is not None and value.year in _YEARS:
        value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return format_time(read_by(parse_time, value, place))


def read_forbids(value: Any, place: Place, label: str, language: Language) -> tuple[Forbid, ...]:
    """Return the forbids of a list, each with a name of its own within the label."""
    items = read_list(value, place, example=f"[{FORBID}]")
    return tuple(_read_forbid(item, place.item(index), label, language) for index, item in enumerate(items))


def _read_forbid(value: Any, place: Place, label: str, language: Language) -> Forbid:
    if isinstance(value, str):
        service = find_service(value, place, language.services)
        return Forbid(place, label, service.name, service, _ANY)
    options = read_mapping(value, place, keys=_FORBID_KEYS, example=FORBID)
    demand(options, place, ("service",), of="forbid", example=FORBID)
    service = find_service(options["service"], place.key("service"), language.services)
    name = read_name(options["name"], place.key("name")) if "name" in options else service.name
    to, without = (
        read_terms(options[key], place.key(key), language.words) if key in options else default
        for key, default in (("to", _ANY), ("except", ()))
    )
    verdict = read_choice(options["verdict"], place.key("verdict"), VERDICTS) if "verdict" in options else None
    return Forbid(place, label, name, service, to, without, verdict, _read_reply(options, place, service))


def _read_reply(options: Mapping[str, Any], place: Place, service: Service) -> str | None:
    """Return what a forbid answers with, which only one that always rejects can say."""
    if "reject_with" not in options:
        return None
    place = place.key("reject_with")
    if options.get("verdict") != "reject":
        place.fail("goes with verdict: reject only", "Add that to the forbid, or leave it out")
    reply = read_choice(options["reject_with"], place, REJECTS)
    if reply == "tcp-reset" and not any(part.protocol in ("tcp", "any") for part in service.parts):
        place.fail(f"tcp-reset answers TCP only, which {service.name} is not", "Choose another answer")
    return reply


def read_waivers(value: Any, place: Place, label: str, language: Language, bound: Bound) -> tuple[Waiver, ...]:
    """Return the waivers of a list."""
    items = read_list(value, place, example=f"[{WAIVER}]")
    return tuple(_read_waiver(item, place.item(index), label, language, bound) for index, item in enumerate(items))


def _read_waiver(value: Any, place: Place, label: str, language: Language, bound: Bound) -> Waiver:
    options = read_mapping(value, place, keys=_WAIVER_KEYS, example=WAIVER)
    demand(options, place, _WAIVER_KEYS, of="waiver", example=WAIVER)
    expires = _read_time(options["expires"], place.key("expires"))
    if expires > bound.latest:
        what = f"{expires} is more than {bound.days} days ahead, and a waiver is not for ever"
        mend = "Let it expire earlier and renew it, or raise egress_firewall_waiver_days"
        place.key("expires").fail(what, mend)
    return Waiver(
        place,
        label,
        read_text(options["forbid"], place.key("forbid"), example="web/smtp"),
        find_service(options["service"], place.key("service"), language.services),
        read_terms(options["to"], place.key("to"), language.words),
        read_text(options["reason"], place.key("reason"), example="ticket 4711"),
        read_text(options["owner"], place.key("owner"), example="ops"),
        expires,
    )


def read_probes(value: Any, place: Place, label: str, language: Language) -> tuple[Probe, ...]:
    """Return the probes of a list."""
    items = read_list(value, place, example=f"[{PROBE}]")
    return tuple(_read_probe(item, place.item(index), label, language) for index, item in enumerate(items))


def _read_probe(value: Any, place: Place, label: str, language: Language) -> Probe:
    options = read_mapping(value, place, keys=_PROBE_KEYS, example=PROBE)
    demand(options, place, ("service", "to"), of="probe", example=PROBE)
    service = find_service(options["service"], place.key("service"), language.services)
    known = ways(service)
    if not known:
        what = f"{service.name} cannot be probed: that takes a port of tcp or udp, from any source port, or ping"
        place.key("service").fail(what, f"Name one, like {SERVICE}")
    if "query" in options and not any(way.payload == "dns" for way in known):
        place.key("query").fail(f"a probe of {service.name} asks for no name", "Take it out, or probe dns")
    return Probe(
        place,
        label,
        read_name(options["name"], place.key("name")) if "name" in options else service.name,
        service,
        read_terms(options["to"], place.key("to"), language.words),
        read_choice(options.get("expect", "reachable"), place.key("expect"), ("reachable", "blocked")),
        read_by(PROBE_PARSERS["timeout"], options["timeout"], place.key("timeout")) if "timeout" in options else None,
        read_by(PROBE_PARSERS["query"], options["query"], place.key("query")) if "query" in options else None,
    )


def read_profiles(value: Any, place: Place, language: Language) -> dict[str, Profile]:
    """Return the profiles that ship, with what the inventory adds and replaces, then the inventory's own."""
    shipped = Place("shipped profiles")
    profiles = {
        name: _as_shipped(_read_profile(options, shipped.key(name), Profile(name, (name,)), language))
        for name, options in PROFILES.items()
    }
    for name, options in read_mapping(value, place, example=f"{{mail: {PROFILE}}}").items():
        read_name(name, place.key(name))
        before = profiles.get(name, Profile(name, (name,)))
        after = _read_profile(options, place.key(name), before, language)
        _check_applies(after, place.key(name), name in PROFILES, language)
        profiles[name] = replace(after, replaced=tuple(options)) if name in PROFILES else after
    return profiles


def _as_shipped(profile: Profile) -> Profile:
    is_base = profile.name == BASE
    return replace(
        profile,
        grants=tuple(replace(grant, shipped=True, default=is_base) for grant in profile.grants),
        forbids=tuple(replace(forbid, shipped=True) for forbid in profile.forbids),
        probes=tuple(replace(probe, shipped=True) for probe in profile.probes),
    )


def _read_profile(value: Any, place: Place, before: Profile, language: Language) -> Profile:
    """Return a profile with these keys merged over what it was: groups are added, anything else is replaced."""
    options = read_mapping(value, place, keys=_PROFILE_KEYS, example=PROFILE)
    profile = before
    if "groups" in options:
        profile = replace(
            profile, groups=profile.groups + _read_groups(options["groups"], place.key("groups"), language)
        )
    if "grants" in options:
        grants = read_grants(options["grants"], place.key("grants"), before.name, language)
        profile = replace(profile, grants=tuple(replace(g, default=before.name == BASE) for g in grants))
    if "forbids" in options:
        profile = replace(
            profile, forbids=read_forbids(options["forbids"], place.key("forbids"), before.name, language)
        )
    if "accepts" in options:
        profile = replace(
            profile, accepts=read_accepts(options["accepts"], place.key("accepts"), before.name, language)
        )
    if "probes" in options:
        profile = replace(profile, probes=read_probes(options["probes"], place.key("probes"), before.name, language))
    return profile


def _read_groups(value: Any, place: Place, language: Language) -> tuple[str, ...]:
    groups = read_list(value, place, example="[mail]")
    for index, group in enumerate(groups):
        if not isinstance(group, str) or group not in language.words.groups:
            hint = nearest(group, language.words.groups) if isinstance(group, str) else ""
            place.item(index).fail(f"unknown group {shown(group)}", f"{hint}Name groups of the inventory")
    return tuple(groups)


def _check_applies(profile: Profile, place: Place, is_shipped: bool, language: Language) -> None:
    """A profile that no group can get is a misspelt one."""
    if not is_shipped and not any(group in language.words.groups for group in profile.groups):
        hint = nearest(profile.name, PROFILES)
        place.fail(
            f"unknown profile '{profile.name}': it ships not, no group has its name, and it lists no 'groups'",
            f"{hint}Or give it groups: the inventory groups whose hosts are to have it",
        )
