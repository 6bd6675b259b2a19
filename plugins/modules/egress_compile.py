#!/usr/bin/python
# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin of the same name, which does all of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: egress_compile
short_description: Compiles the egress policies of the whole inventory
description:
  - Reads the policy variables (C(egress_firewall_*)) of all hosts of the inventory and writes the policy of every
    managed host, with its rules and chains, into a file of its own on the controller.
  - It runs on the controller and connects to no host. Run it once for all hosts, with C(run_once).
  - Policy variables count where the inventory sets them (or the command line, by C(-e)). A policy variable that a play
    or a role sets is an error, as it would count for nothing.
  - The filter P(palisade.egress.egress_policy#filter) gives the same as data.
version_added: 0.1.0
author:
  - the palisade.egress contributors (@palisade-egress)
attributes:
  check_mode:
    description: Can run in check mode and return what it would return without it.
    support: full
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
notes:
  - The directory is readable by the user who runs ansible only, and ansible removes it when it ends.
seealso:
  - plugin: palisade.egress.egress_policy
    plugin_type: filter
  - module: palisade.egress.egress_rule
"""

EXAMPLES = r"""
- name: Compile the policies of all hosts
  palisade.egress.egress_compile:
  register: compiled
  run_once: true

- name: Read this host's own policy
  ansible.builtin.set_fact:
    policy: "{{ lookup('ansible.builtin.file', file) | from_json }}"
  vars:
    file: "{{ compiled.directory }}/{{ inventory_hostname | urlencode | replace('/', '%2F') }}.json"
"""

RETURN = r"""
directory:
  description:
    - Where the policies are, on the controller; a file for each managed host.
    - A file has the name of its host in the inventory, URL-encoded, with C(.json) behind it.
    - Its keys are those that the filter P(palisade.egress.egress_policy#filter) returns for a host.
  returned: success
  type: str
  sample: /home/op/.ansible/tmp/ansible-local-4711abcdefgh/egress-x1y2z3
hosts:
  description: How many hosts have a policy.
  returned: success
  type: int
  sample: 5
"""
