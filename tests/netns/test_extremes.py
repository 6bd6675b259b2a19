# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The least and the most of each option, all in one ruleset, in a real kernel, for each nft."""

from __future__ import annotations

from itertools import product
from typing import Any

from netns.namespace import Namespace

from ansible_collections.palisade.egress.plugins.module_utils import _options, _values
from ansible_collections.palisade.egress.plugins.module_utils._codec import decode
from ansible_collections.palisade.egress.plugins.module_utils._nftables import Nftables
from ansible_collections.palisade.egress.plugins.module_utils._transaction import converge

Plain = dict[str, Any]

LIMITS = [
    {"limit": {"rate": f"{amount}/{unit}", "burst": burst, "per": per, "mode": mode}}
    for amount, unit, burst, per, mode in product(
        (1, 10**9, _values.MAX_RATE), _values.UNITS, (1, 65535), ("none", "source"), ("over", "under")
    )
]
NAMES = [
    "x" * 128, "~" * 128, "a b", "} drop", "; flush ruleset", "$(reboot)", "@set", "-", "0", "*", "'", "a/../b",
    "accept", "comment", "{{ name }}", "%s", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~",
]  # fmt: skip
OPTIONS: list[Plain] = [
    *LIMITS,
    *({"protocol": number} for number in range(256)),
    *({"protocol": "icmp", "icmp_type": [number]} for number in (0, 1, 18, 255)),
    {"protocol": "icmp", "icmp_type": list(range(256))},
    {"protocol": "icmpv6", "icmp_type": list(range(256))},
    *({"protocol": protocol, "destination_ports": [0, 65535]} for protocol in _values.PORT_PROTOCOLS),
    {"protocol": "tcp", "source_ports": list(range(0, 65536, 16))},
    *({"protocol": "tcp", "tcp_flags": {"mask": list(_options.TCP_FLAGS), "set": flags}}
      for flags in (["syn"], ["urg", "fin"], list(_options.TCP_FLAGS))),
    *({"expires": time} for time in ("1970-01-01T00:00:00Z", "2038-01-20T00:00:00Z", "2262-04-11T23:47:15Z")),
    *({"log": {"prefix": "!" * 28, "group": group}} for group in (0, 65535)),
    {"log": {"prefix": " "}},
    {"log": {"prefix": "x", "rate": f"{_values.MAX_RATE}/second"}},
    {"uid_owner": [0, 2**32 - 2], "gid_owner": [0, 2**32 - 2]},
    *({"out_interface": [name]} for name in ("-", "@", ".", "..", ":", "0", "-o", "_" * 15)),
    {"ctstate": list(_options.CTSTATES)},
    *({"source_type": f"{negation}{kind}"} for negation in ("", "not:") for kind in _options.ADDRESS_TYPES),
    {"source": ["0.0.0.0", "255.255.255.255"], "destination": ["0.0.0.0/1", "255.0.0.0/8"]},
    {"source": ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], "destination": ["8000::/1"]},
    {"destination": [f"10.{a}.{b}.0/25" for a in range(4) for b in range(256)]},
    *({"name": name} for name in NAMES),
    {"name": "y" * 60, "comment": "!" + "z" * 64},
    {"action": "dispatch", "dispatch": {"source": {"0.0.0.0/0": "x" * 20, "::/0": "0"}}},
    {"action": "dispatch", "dispatch": {"destination": {f"10.0.{n}.0/24": ("0", "x" * 20)[n % 2] for n in range(9)}}},
    {"chain": "x" * 20, "name": "z" * 128, "destination": [f"10.0.{n}.0" for n in range(9)]},
]  # fmt: skip
RULES = [{"name": f"rule {n}", "chain": "output", "action": "accept", **options} for n, options in enumerate(OPTIONS)]
CHAINS = {
    "prerouting": {"priority": -1000},
    "input": {"priority": 1000, "default": "reject", "reject_with": "tcp-reset"},
    "0": {},
}


def test_are_given_back(each_nft: Namespace) -> None:
    backend = Nftables(each_nft.run)
    wanted = decode(RULES, CHAINS)
    converge(backend, wanted, check=False, midstream=False)
    observed = backend.observe(backend.read())
    assert (observed.ruleset, observed.strays) == (wanted, ())
    assert converge(backend, wanted, check=False, midstream=False).plan == ()
