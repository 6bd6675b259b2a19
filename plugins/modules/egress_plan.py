#!/usr/bin/python
# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin of the same name, which does all of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: egress_plan
short_description: Tells what a changed inventory means for every host
description:
  - Compiles the inventory of this run and another one, say of another checkout, and tells for every managed host which
    flows may begin newly and which no longer. The answer holds for all packets, and each part of it comes with one
    packet as an example.
  - It runs on the controller and connects to no host. What hosts hold in truth is told by the module
    M(palisade.egress.egress_rule) in check mode.
  - The assertions of this inventory are proven, those of the other one are not.
version_added: 0.1.0
author:
  - the palisade.egress contributors (@palisade-egress)
options:
  against:
    description:
      - The inventory to compare with, a file or folder on the controller.
      - It is read with the variables of the command line and the vault secrets of this run.
    type: path
    required: true
attributes:
  check_mode:
    description: Can run in check mode and return what it would return without it.
    support: full
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
seealso:
  - plugin: palisade.egress.egress_compare
    plugin_type: filter
  - module: palisade.egress.egress_compile
"""

EXAMPLES = r"""
- name: Tell what this branch changes
  palisade.egress.egress_plan:
    against: /srv/checkouts/main/inventory
  register: plan
  run_once: true

- name: Show it
  ansible.builtin.debug:
    msg: "{{ plan.text.splitlines() }}"
  run_once: true
"""

RETURN = r"""
changes:
  description:
    - What changes, those hosts together for which the same does.
    - C(state) is V(changed), V(new) (not managed before), V(new in audit), V(gone) (no longer managed), V(removed) (its
      rules are to go), V(audited) (audit begins) or V(enforced) (audit ends).
    - C(flows) are as the filter P(palisade.egress.egress_compare#filter) returns them. Those of a new host are what it
      may reach. Those of a host that is in audit before and after are what its policy says, though nothing is stopped;
      where audit begins or ends, they are what really passes.
  returned: success
  type: list
  elements: dict
  sample:
    - state: changed
      hosts: [web1, web2]
      flows:
        - change: allowed
          chain: output
          packets: [tcp port 443 to 203.0.113.80]
          example: "the host → 203.0.113.80 tcp port 443"
          before: {verdict: drop, rule: null, chain: output, limited: false}
          after: {verdict: accept, rule: web/https, chain: output, limited: false}
unchanged:
  description: How many hosts may do what they could before.
  returned: success
  type: int
  sample: 997
text:
  description: The same for people, a few lines a group of hosts.
  returned: success
  type: str
  sample: "web1, web2\n  + newly allowed: tcp port 443 to 203.0.113.80 ('web/https')"
"""
