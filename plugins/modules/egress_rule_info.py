#!/usr/bin/python

# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: egress_rule_info
short_description: Tell which packet filter rules of this collection the kernel holds
version_added: 0.1.0
author: palisade.egress contributors (!UNKNOWN)
description:
  - Reads the collection's own table from the kernel and returns its rules, what they have counted, and whatever in it
    is not one of our rules. Changes nothing.
  - Compares with O(rules), where they are given.
requirements:
  - nft 1.0.2 or later on the managed node.
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Has nothing to show, see RV(drift).
    support: none
  platform:
    description: Runs on Linux.
    platforms: linux
    support: full
options:
  rules:
    description: The rules that ought to be there, as in the option C(rules) of M(palisade.egress.egress_rule).
    type: list
    elements: raw
  chains:
    description: The chains that ought to be there, as in the option C(chains) of M(palisade.egress.egress_rule).
    type: dict
    default: {}
  generation:
    description: The number of saved rules whose content to return.
    type: int
  backend:
    description: The kernel's filter to use. V(auto) chooses one that is there.
    type: str
    choices: [auto, nftables]
    default: auto
seealso:
  - module: palisade.egress.egress_rule
"""

EXAMPLES = r"""
- name: Read the rules and their counters
  palisade.egress.egress_rule_info:
  register: fence

- name: Show how many packets have been dropped for want of a grant
  ansible.builtin.debug:
    msg: "{{ fence.counters | selectattr('name', 'eq', 'palisade/default') }}"
"""

RETURN = r"""
present:
  description: Whether the collection's table is there.
  type: bool
  returned: success
  sample: true
installed:
  description: Whether the program of the backend is installed.
  type: bool
  returned: success
  sample: true
backend:
  description: The filter that was asked.
  type: str
  returned: success
  sample: nftables
rules:
  description: The rules, as M(palisade.egress.egress_rule) takes them.
  type: list
  elements: dict
  returned: success
  sample:
    - {name: dns, chain: output, action: accept, protocol: udp, destination_ports: ["53"]}
chains:
  description: The chains, as M(palisade.egress.egress_rule) takes them.
  type: dict
  returned: success
  sample: {output: {default: drop, priority: 0}}
counters:
  description: What each rule has matched. The default verdict of a chain counts as C(palisade/default).
  type: list
  elements: dict
  returned: success
  sample:
    - {chain: output, name: dns, packets: 12, bytes: 816}
strays:
  description: What else is in the table; M(palisade.egress.egress_rule) would remove it.
  type: list
  elements: str
  returned: success
  sample: [rule without a name (handle 12) in output]
drift:
  description: What M(palisade.egress.egress_rule) would change, like its RV(palisade.egress.egress_rule#module:plan).
  type: list
  elements: dict
  returned: when O(rules) are given
  sample: []
generations:
  description: The rules that are saved on the host, the oldest first.
  type: list
  elements: dict
  returned: success
  sample:
    - {number: 7, saved: "2026-11-23T05:12:33Z", current: true}
  contains:
    number:
      description: Its number.
      type: int
      returned: always
      sample: 7
    saved:
      description: When it was saved, in UTC.
      type: str
      returned: always
      sample: "2026-11-23T05:12:33Z"
    current:
      description: Whether the next boot loads it.
      type: bool
      returned: always
      sample: true
saved:
  description:
    - The C(rules), C(chains) and C(forwarding) of the generation that was asked for, as
      M(palisade.egress.egress_rule) takes them.
  type: dict
  returned: when O(generation) is given
  sample:
    rules:
      - {name: dns, chain: output, action: accept, protocol: udp, destination_ports: ["53"]}
    chains: {output: {default: drop}}
    forwarding: {ipv4: false, ipv6: false}
forwarding:
  description: The families whose packets the host forwards.
  type: list
  elements: str
  returned: success
  sample: [ipv4]
forwarding_ours:
  description: The families for which M(palisade.egress.egress_rule) has been told whether the host forwards them.
  type: list
  elements: str
  returned: success
  sample: [ipv4, ipv6]
bridges:
  description: The host's bridges, behind which containers or virtual machines may live.
  type: list
  elements: str
  returned: success
  sample: [docker0]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.palisade.egress.plugins.module_utils._inform import inform
from ansible_collections.palisade.egress.plugins.module_utils._module import run_module


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "rules": {"type": "list", "elements": "raw"},
            "chains": {"type": "dict", "default": {}},
            "generation": {"type": "int"},
            "backend": {"choices": ["auto", "nftables"], "default": "auto"},
        },
        supports_check_mode=True,
    )
    run_module(module, inform)


if __name__ == "__main__":
    main()
