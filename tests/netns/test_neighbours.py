# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not ours stays as it is, byte for byte, whatever becomes of our table."""

from __future__ import annotations

from netns.namespace import Namespace
from property.strategies import PlainRuleset, for_samples, rulesets

from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge

# Tables whose names are near ours, objects named as ours are, sets that fill by themselves.
TABLES = """
table ip palisade_egress {
    counter output/web { packets 5 bytes 500 }
    chain output {
        type filter hook output priority 0; policy accept;
        counter name output/web accept comment "web"
    }
}
table inet palisade_egress2 {
    set seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; elements = { 198.51.100.7 expires 30m } }
    map to { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/8 : accept } }
    chain own/web { }
    chain output {
        type filter hook output priority 10; policy accept;
        ip daddr vmap @to counter packets 7 bytes 70 jump own/web
    }
}
table inet dozing {
    flags dormant
    chain input { type filter hook input priority 0; policy drop; }
}
table bridge b {
    chain forward { type filter hook forward priority 0; policy accept; }
}
table arp a {
    chain input {
        type filter hook input priority 0; policy accept;
        counter packets 1 bytes 1
    }
}
"""
LISTINGS = [
    "nft -a list table ip palisade_egress", "nft -a list table inet palisade_egress2", "nft -a list table inet dozing",
    "nft -a list table bridge b", "nft -a list table arp a", "iptables-nft-save -c", "ip6tables-nft-save -c",
    "iptables-legacy-save -c", "ipset save", "nft list tables",
]  # fmt: skip


def others(netns: Namespace) -> list[str]:
    """Return all that is not ours, without the times at which it was listed and to which elements live."""
    lines = [line for command in LISTINGS for line in netns.must(command).splitlines()]
    return [
        line.partition(" expires ")[0] for line in lines if "#" not in line[:1] and line[6:] != "inet palisade_egress"
    ]


def make_others(netns: Namespace) -> None:
    netns.nft(TABLES)
    netns.must("ipset create bad hash:net")
    netns.must("ipset add bad 203.0.113.0/24")
    for program in ("iptables-nft", "ip6tables-nft", "iptables-legacy"):
        netns.must(f"{program} -P FORWARD DROP")
        netns.must(f"{program} -N own")
        netns.must(f"{program} -A OUTPUT -p tcp --dport 25 -m comment --comment web -j own")
    netns.must("iptables-legacy -A INPUT -m set --match-set bad src -j DROP")


def test_other_tables_stay(netns: Namespace, backend: Nftables) -> None:
    make_others(netns)
    before = others(netns)
    assert any("dport 25" in line for line in before)

    def prove(ruleset: PlainRuleset) -> None:
        converge(backend, decode(*ruleset), check=False, midstream=False)
        assert others(netns) == before

    for_samples(rulesets(), 10, 0)(prove)
    converge(backend, None, check=False, midstream=False)
    assert others(netns) == before
    assert "inet palisade_egress\n" not in netns.must("nft list tables")


def test_nothing_of_ours_is_left(netns: Namespace, backend: Nftables) -> None:
    def prove(ruleset: PlainRuleset) -> None:
        converge(backend, decode(*ruleset), check=False, midstream=False)
        converge(backend, None, check=False, midstream=False)
        assert netns.everything() == ""
        assert converge(backend, None, check=False, midstream=False).plan == ()

    for_samples(rulesets(), 10, 1)(prove)
