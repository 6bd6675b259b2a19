# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a suffixed variable may be set, and for whom it counts."""

from __future__ import annotations

from typing import Any

import pytest
from unit.plugin_utils.sites import ADDRESSES, GROUPS, HOSTS, members, site

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError
from ansible_collections.palisade.egress.plugins.plugin_utils._report import compile_policies

GRANT = [{"service": "ssh", "to": "any"}]
OTHER = [{"service": "ssh", "to": "relays"}]

# suffix | who shows it (`!` another value) | hosts for which it counts, or the host that the error names
TABLE = """
web     | web                    | web1 web2
web     | all                    | web1 web2
web     | web1                   | error web1
web     | web1 !web2             | error web2
web     | !web2 web1             | error web2
web     | web mail1              | error mail1
web     | web mail1 db1 ns1      | error mail1
web     | web mail1 db1 ns1 printer1 | web1 web2
web     | web !mail1 db1 ns1 printer1 | web1 web2
web     | mail1                  | error mail1
web_eu  | web-eu                 | web2
web_eu  | all                    | web2
web1    | web1                   | web1
web1    | all                    | web1
web1    | web                    | error web2
nobody  | all                    |
nobody  | web1                   | error web1
all     | all                    | mail1 web1 web2 db1 ns1
all     | web                    | error web1
office  | printer1               |
"""


@pytest.mark.parametrize("line", TABLE.strip().splitlines())
def test_counts_for(line: str) -> None:
    suffix, shown, expected = (cell.strip() for cell in line.split("|"))
    hostvars = site()
    for target in shown.split():
        for host in members(target.removeprefix("!")):
            hostvars[host][f"egress_firewall_allow__{suffix}"] = OTHER if target.startswith("!") else GRANT
    assert outcome(suffix, hostvars) == expected


def outcome(suffix: str, hostvars: dict[str, Any]) -> str:
    try:
        policies = compile_policies(hostvars, {"all": list(HOSTS), **GROUPS})
    except PolicyError as error:
        return error.where.replace(f"egress_firewall_allow__{suffix} on host", "error")
    origins = {host: [grant["origin"] for grant in policies[host]["grants"]] for host in ADDRESSES}
    return " ".join(host for host in ADDRESSES if f"{suffix}/ssh" in origins[host])


def test_a_host_with_the_name_of_a_group_makes_the_suffix_mean_two() -> None:
    hostvars = {name: dict(values) for name, values in site().items()}
    hostvars["web1"]["egress_firewall_allow__web1"] = GRANT
    with pytest.raises(PolicyError, match="means group web1 and host web1"):
        compile_policies(hostvars, {"all": list(HOSTS), **GROUPS, "web1": ["web2"]})


def test_two_redefinitions_of_a_network_must_agree() -> None:
    hostvars = site()
    hostvars["web2"]["egress_firewall_networks__web_eu"] = {"resolvers": ["192.0.2.1"]}
    hostvars["web2"]["egress_firewall_networks__web2"] = {"resolvers": ["192.0.2.1"]}
    compile_policies(hostvars, GROUPS)
    hostvars["web2"]["egress_firewall_networks__web2"] = {"resolvers": ["192.0.2.2"]}
    with pytest.raises(PolicyError, match=r"networks__web_eu\.resolvers on host web2: egress_firewall_networks__web2"):
        compile_policies(hostvars, GROUPS)
