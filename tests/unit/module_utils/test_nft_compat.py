# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What old versions of nft leave out of their JSON, as those versions print it."""

from __future__ import annotations

from typing import Any

from ansible_collections.palisade.egress.plugins.module_utils._nft_compat import (
    add_limits,
    known_flags,
    lacks_limits,
    table_flags,
)

# nft 1.0.2 of a rule that limits each source; its log prefix and its comment look like such limits, too.
TEXT = """table inet palisade_egress { # handle 7
\tset output/web/rate4 { # handle 3
\t\ttype ipv4_addr
\t\tflags dynamic,timeout
\t}

\tchain output { # handle 1
\t\ttype filter hook output priority filter; policy accept;
\t\tmeta nfproto ipv4 update @output/web/rate4 { ip saddr limit rate over 20/minute \
burst 9 packets } counter name "output/web" log prefix "update @x { ip saddr limit rate 1/day }" accept \
comment "web # handle 6" # handle 5
\t\tupdate @output/x/rate6 { ip6 daddr limit rate 7/day } counter name "output/x" drop comment "x" # handle 6
\t\tcounter name "output/y" log prefix "update @y { ip saddr limit rate 1/day }" # handle 8
\t}
}
"""


def rule(handle: int, **statement: Any) -> dict[str, Any]:
    return {"rule": {"handle": handle, "expr": [{"match": {}}, {"set": {"op": "add", **statement}}]}}


def statements(listing: dict[str, Any]) -> list[Any]:
    return [item["rule"]["expr"][1]["set"].get("stmt") for item in listing["nftables"] if "rule" in item]


def test_limits_are_found_by_handle() -> None:
    listing = {"nftables": [{"metainfo": {}}, rule(5, set="@output/web/rate4"), rule(6), rule(8), rule(9)]}
    assert lacks_limits(listing)
    add_limits(listing, TEXT)
    assert statements(listing) == [
        [{"limit": {"rate": 20, "per": "minute", "burst": 9, "inv": True}}],
        [{"limit": {"rate": 7, "per": "day", "burst": 5, "inv": False}}],
        None,
        None,
    ]


def test_nothing_lacks() -> None:
    assert not lacks_limits({"nftables": [{"metainfo": {}}, rule(5, stmt=[{"limit": {}}])]})
    assert not lacks_limits({"nftables": [{"rule": {"handle": 5, "expr": ["notrack", {"accept": None}]}}]})


def test_flags() -> None:
    assert table_flags(TEXT) == ()
    assert table_flags("table inet palisade_egress {\n\tflags dormant\n\n\tchain output {\n") == ("dormant",)
    assert table_flags("table inet palisade_egress {\n\tflags dormant,owner\n}\n") == ("dormant", "owner")
    assert known_flags(["dormant"]) == ("dormant",)
    assert known_flags(["output/web"]) == ("of some kind",)
    assert known_flags([]) == ("of some kind",)
