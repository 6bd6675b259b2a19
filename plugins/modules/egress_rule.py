#!/usr/bin/python

# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: egress_rule
short_description: Make the kernel hold exactly these packet filter rules
version_added: 0.1.0
author: palisade.egress contributors (!UNKNOWN)
description:
  - Compares a list of rules with what the kernel really holds, and changes what differs in one transaction.
    At no moment are there no rules, or half of them.
  - The list is the whole content of the collection's own nftables table, C(inet palisade_egress).
    What is in that table and not in the list goes. Nothing outside that table is ever read or touched.
  - What stays the same stays untouched, and the counters of rules that change go on counting.
requirements:
  - nft 1.0.2 or later on the managed node.
attributes:
  check_mode:
    description: Returns exactly the plan of a real run and writes nothing.
    support: full
  diff_mode:
    description: Shows the rules that are added, removed, changed or moved, a line each.
    support: full
  platform:
    description: Runs on Linux.
    platforms: linux
    support: full
options:
  rules:
    description:
      - The rules, first match wins within a chain. An option that is left out matches anything;
        an empty list is an error, so that a template that resolved to nothing never opens everything.
      - Addresses of both families may stand in one list. A rule is made for the families in which each of its
        address lists has members.
      - Required with O(state=present).
    type: list
    elements: raw
    suboptions:
      name:
        description:
          - The name of the rule, unique in its chain. The kernel's listing shows it.
          - Printable ASCII without quotes and backslashes. The name, the comment and the mark between them have
            128 characters together.
        type: str
        required: true
      chain:
        description:
          - V(input), V(output), V(forward), V(prerouting), or a chain of your own that a jump leads to.
          - A chain of your own is named by up to 20 of C(a-z), C(0-9) and C(_).
        type: str
        required: true
      action:
        description:
          - What happens to a packet that matches.
          - V(log) goes on with the next rule; V(return) goes back behind the jump, from a chain of your own.
        type: str
        required: true
        choices: [accept, drop, reject, log, jump, return, dispatch]
      target:
        description: The chain that V(jump) goes to.
        type: str
      dispatch:
        description:
          - Which chain V(dispatch) goes to by address, in one lookup. Has one key, V(source) or V(destination),
            with a dictionary of chains by CIDR.
        type: dict
      family:
        description: The family of the packet.
        type: str
        choices: [any, ipv4, ipv6]
        default: any
      protocol:
        description: The protocol, by name or number.
        type: str
      source:
        description: Addresses and CIDRs of the packet's source.
        type: list
        elements: str
      destination:
        description: Addresses and CIDRs of the packet's destination.
        type: list
        elements: str
      source_type:
        description: What the routing table calls the source. V(not:) in front negates it.
        type: str
        choices: &types
          - local
          - unicast
          - broadcast
          - anycast
          - multicast
          - blackhole
          - unreachable
          - prohibit
          - not:local
          - not:unicast
          - not:broadcast
          - not:anycast
          - not:multicast
          - not:blackhole
          - not:unreachable
          - not:prohibit
      destination_type:
        description: What the routing table calls the destination. V(not:) in front negates it.
        type: str
        choices: *types
      reverse_path:
        description:
          - Matches packets that B(fail) the check of their way back. V(strict) asks whether the answer would leave by
            the interface that the packet came in by, V(loose) whether there is a way at all.
        type: str
        choices: [strict, loose]
      source_ports:
        description: Ports such as V(53) and ranges such as V(8000-8010).
        type: list
        elements: str
      destination_ports:
        description: Ports such as V(443) and ranges such as V(8000-8010).
        type: list
        elements: str
      tcp_flags:
        description: Of the flags in C(mask), exactly those in C(set) are on.
        type: dict
        suboptions:
          mask:
            description: The flags that are looked at.
            type: list
            elements: str
            choices: [fin, syn, rst, psh, ack, urg]
            required: true
          set:
            description: The flags of C(mask) that are on; none of them if left out.
            type: list
            elements: str
            choices: [fin, syn, rst, psh, ack, urg]
      icmp_type:
        description: Types of O(rules[].protocol) V(icmp) or V(icmpv6), by name or number.
        type: list
        elements: str
      in_interface:
        description: Names of interfaces that the packet came in by.
        type: list
        elements: str
      out_interface:
        description: Names of interfaces that the packet leaves by.
        type: list
        elements: str
      ctstate:
        description:
          - States of the packet's connection. Connection tracking looks at packets at the priority -200; before that,
            as in V(prerouting) with its default priority, every packet from outside is V(invalid).
        type: list
        elements: str
        choices: [new, established, related, invalid, untracked]
      ct_direction:
        description: Whether the packet goes the way of the first packet of its connection.
        type: str
        choices: [original, reply]
      uid_owner:
        description: Users whose process sends the packet, by name or number. For the chain V(output).
        type: list
        elements: str
      gid_owner:
        description: Groups whose process sends the packet, by name or number. For the chain V(output).
        type: list
        elements: str
      cgroup:
        description: Paths of control groups. Not supported yet, a rule that has it is refused.
        type: list
        elements: str
      limit:
        description: How many packets match.
        type: dict
        suboptions:
          rate:
            description: A number by V(second), V(minute), V(hour) or V(day), such as V(20/second).
            type: str
            required: true
          burst:
            description: How many packets may come at once.
            type: int
            default: 5
          per:
            description: Whether each address has a count of its own.
            type: str
            choices: [none, source, destination]
            default: none
          mode:
            description: Whether packets match that are within the rate, or those that exceed it.
            type: str
            choices: [under, over]
            default: under
      log:
        description: Logs the packets, with any O(rules[].action).
        type: dict
        suboptions:
          prefix:
            description: What the line begins with, up to 28 characters.
            type: str
            required: true
          group:
            description: The NFLOG group to send to, instead of the kernel's log.
            type: int
          rate:
            description: How many lines at most, such as V(10/second). The counter of the rule counts all packets.
            type: str
      reject_with:
        description: What the sender is told, in the way of its family. V(tcp-reset) needs C(protocol=tcp).
        type: str
        choices:
          - icmp-port-unreachable
          - icmp-net-unreachable
          - icmp-host-unreachable
          - icmp-admin-prohibited
          - tcp-reset
      expires:
        description: A time in UTC such as V(2027-01-31T00:00:00Z), from which the kernel ignores the rule.
        type: str
      comment:
        description: Anything that explains the rule, in printable ASCII.
        type: str
        default: ""
  chains:
    description:
      - What happens to packets that no rule decides, by chain. A base chain that is not declared and has no rules does
        not exist; one that has rules and is not declared accepts.
      - Each has C(default) (V(accept), V(drop) or V(reject)), C(reject_with) as in O(rules[].reject_with), and
        C(priority) (V(raw), V(mangle), V(filter), V(security) or a number; a smaller one comes first).
        C(prerouting) has the priority V(raw) if none is given, the others V(filter).
      - As a default, V(tcp-reset) is for TCP, and all else is told V(icmp-port-unreachable).
    type: dict
    default: {}
  state:
    description:
      - V(present) makes the table hold the rules.
      - V(absent) takes neither rules nor O(forwarding), removes the table, and gives back what was there before.
    type: str
    choices: [present, absent]
    default: present
  backend:
    description: The kernel's filter to use. V(auto) chooses one that is there.
    type: str
    choices: [auto, nftables]
    default: auto
  midstream:
    description:
      - On a host that has never used connection tracking, every open connection looks like a new one in midstream.
        A strict O(chains) would hang it for good, the connection that Ansible itself uses included.
      - V(on_first_apply) tells connection tracking about the host's open TCP connections, idle ones and who began them
        included, if the table is not there yet or asks about connections for the first time. It also puts a rule
        C(palisade/midstream) first in each chain, which lets TCP pass that is under way already, such as what the host
        forwards. Run the module again, over a new connection, to take that rule away.
      - V(never) does not.
    type: str
    choices: [never, on_first_apply]
    default: never
  live_flows:
    description:
      - What becomes of connections and other flows that are established when the rules change, and could not begin
        under the new ones.
      - V(end) makes connection tracking forget them, so that the rules decide on their next packet. A flow is kept
        where what is not known of it, such as the interface or the user, could allow it. So is the connection that
        Ansible itself uses. On a first apply with O(midstream=on_first_apply) they go on until the next run.
      - V(keep) lets them go on for as long as they live.
    type: str
    choices: [end, keep]
    default: end
  forwarding:
    description:
      - Whether the host forwards packets of others, by family. That goes off before the rules are loaded, and on once
        they are in force, and is taken back with them where nobody confirms the change.
      - V(false) turns it off for all interfaces. V(true) sets C(net.ipv4.ip_forward) and
        C(net.ipv6.conf.all.forwarding) where they are not set already, which turns it on for all interfaces.
      - Of a family that is not given, nothing is changed. If an earlier run has, what was there before it comes back,
        as it does with O(state=absent), unless somebody else has changed it since.
      - A host that forwards IPv6 takes no router advertisements, unless C(accept_ra) of an interface is 2. Where that
        would cost a default route, the task fails before it changes anything.
    type: dict
    default: {}
    suboptions:
      ipv4:
        description: Whether IPv4 is forwarded.
        type: bool
      ipv6:
        description: Whether IPv6 is forwarded.
        type: bool
  persist:
    description:
      - Whether to save the rules, once they are confirmed, in C(/var/lib/palisade-egress), and to have systemd load
        them at boot before there is a network, and whenever C(nftables.service) has flushed them. What O(forwarding)
        says is saved in C(/etc/sysctl.d/zz-palisade-egress.conf).
      - With O(state=absent) it removes all that.
    type: bool
    default: false
  generations:
    description: How many saved rulesets to keep, the current one included.
    type: int
    default: 5
  boot_failure:
    description:
      - What to do where the saved rules do not load. With V(closed), nothing leaves but answers to those who come in,
        and nothing is forwarded. With V(open), everything is. Either is logged.
    type: str
    choices: [closed, open]
    default: closed
  guard:
    description:
      - Whether to refuse rules, before they are loaded, under which no login like the one at hand could begin or be
        answered. Set it to V(false) if there is another way in.
      - It refuses rules under which an address that DHCP lent this host could not be renewed, too, be they in the
        kernel already. Such an address has a lifetime and, in IPv6, no prefix but itself.
    type: bool
    default: true
  login:
    description: Set by the task itself, to what the login knows as E(SSH_CONNECTION).
    type: str
    default: ""
  probes:
    description:
      - What the host must be able to reach under the rules, or must not, as in
        M(palisade.egress.egress_probe). When the rules have changed, they are tried over the new ones, and the
        change is taken back if one fails.
      - Goes with O(confirm). With O(confirm.timeout=0) nothing is tried.
    type: list
    elements: raw
  confirm:
    description:
      - A change stands only if somebody confirms it. Before the rules are loaded, a watchdog is set up on the host. It
        brings the rules back that were there before, with their counters and sets, unless it is told not to. Once the
        rules are loaded, the task drops its connection, logs in anew, runs the O(probes), and tells it.
      - Needs a connection by which a new login passes the rules, such as SSH. With C(async) the task itself waits for
        the confirmation, so C(poll) must not be 0.
    type: dict
    default: {}
    suboptions:
      timeout:
        description: How many seconds the watchdog waits. V(0) does without it.
        type: int
        default: 30
      token:
        description: Set by the task itself.
        type: str
      stage:
        description: Set by the task itself.
        type: str
        choices: [apply, confirm]
seealso:
  - module: ansible.builtin.iptables
"""

EXAMPLES = r"""
- name: Let a web server look up names and reach its database, and nothing else
  palisade.egress.egress_rule:
    chains:
      output:
        default: drop
    rules:
      - name: loopback
        chain: output
        action: accept
        out_interface: [lo]
      - name: established
        chain: output
        action: accept
        ctstate: [established]
      - name: dns
        chain: output
        action: accept
        protocol: udp
        destination: [203.0.113.53, "2001:db8::53"]
        destination_ports: ["53"]
      - name: postgresql
        chain: output
        action: accept
        protocol: tcp
        destination: [198.51.100.54, "2001:db8:1::54"]
        destination_ports: ["5432"]

- name: Remove all rules of this collection
  palisade.egress.egress_rule:
    state: absent
"""

RETURN = r"""
plan:
  description:
    - What was changed, or with check mode would be. Of lists with more than 1,000 members, only the number is told.
  type: list
  elements: dict
  returned: success
  sample:
    - what: rule
      change: added
      chain: output
      name: dns
      after: {name: dns, chain: output, action: accept, protocol: udp, destination_ports: ["53"]}
  contains:
    what:
      description: What it is about.
      type: str
      returned: always
      sample: rule
    change:
      description: Whether it was V(added), V(removed), V(changed) or V(moved).
      type: str
      returned: always
      sample: added
    chain:
      description: The chain.
      type: str
      returned: for chains and rules
      sample: output
    name:
      description: The name of the rule, what a stray is, or the family that is forwarded.
      type: str
      returned: for rules, strays and forwarding
      sample: dns
    before:
      description: The options before.
      type: dict
      returned: where there were any
      sample: {default: accept, priority: 0}
    after:
      description: The options after.
      type: dict
      returned: where there are any
      sample: {default: drop, priority: 0}
backend:
  description: The filter that was used.
  type: str
  returned: success
  sample: nftables
flows_ended:
  description: How many live flows were ended, or with check mode would be.
  type: int
  returned: success
  sample: 2
midstream:
  description: Whether TCP that is under way is let through until the module runs again.
  type: bool
  returned: success
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.palisade.egress.plugins.module_utils._apply import apply_rules
from ansible_collections.palisade.egress.plugins.module_utils._module import run_module


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "rules": {"type": "list", "elements": "raw"},
            "chains": {"type": "dict", "default": {}},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "backend": {"choices": ["auto", "nftables"], "default": "auto"},
            "midstream": {"choices": ["never", "on_first_apply"], "default": "never"},
            "live_flows": {"choices": ["end", "keep"], "default": "end"},
            "forwarding": {
                "type": "dict",
                "default": {},
                "options": {"ipv4": {"type": "bool"}, "ipv6": {"type": "bool"}},
            },
            "persist": {"type": "bool", "default": False},
            "generations": {"type": "int", "default": 5},
            "boot_failure": {"choices": ["closed", "open"], "default": "closed"},
            "guard": {"type": "bool", "default": True},
            "login": {"default": ""},
            "probes": {"type": "list", "elements": "raw"},
            "confirm": {
                "type": "dict",
                "default": {},
                "options": {
                    "timeout": {"type": "int", "default": 30},
                    "token": {"no_log": False},
                    "stage": {"choices": ["apply", "confirm"]},
                },
            },
        },
        required_if=[("state", "present", ["rules"])],
        supports_check_mode=True,
    )
    run_module(module, apply_rules)


if __name__ == "__main__":
    main()
