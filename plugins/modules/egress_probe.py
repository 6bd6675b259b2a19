#!/usr/bin/python

# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: egress_probe
short_description: Find out what a host can reach, and whether it should
version_added: 0.1.0
author: palisade.egress contributors (!UNKNOWN)
description:
  - Sends packets from the managed node, over whatever rules there are, and compares what becomes of them with what
    is expected. It uses sockets only and needs no program.
  - All probes run at once. Together they take little longer than the largest of their timeouts.
  - V(reachable) is satisfied by an answer from behind the firewalls alone. A connection that is refused or reset shows
    as little as silence, as a firewall that rejects looks like a port that is closed.
  - V(blocked) is satisfied by whatever does not satisfy V(reachable), so by a service that is down too. It shows most
    of an address and port that are known to answer others.
notes:
  - Nothing tells TCP that the host's own rules drop its packets. It is seen by the retransmissions that do not leave,
    the first of which comes after a second. With a O(probes[].timeout) of a second or less this is V(timed out).
  - A rule of the host itself that rejects with C(tcp-reset) looks like the peer's reset. What it rejects otherwise is
    told by the address that the error comes from, with TCP from Linux 5.9 on; before that it is V(reset) or
    V(unreachable).
attributes:
  check_mode:
    description: Probes are sent in check mode too, as they change nothing on the host.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  platform:
    description: Runs on Linux.
    platforms: linux
    support: full
options:
  probes:
    description: What to find out. At most 500 probes.
    type: list
    elements: raw
    required: true
    suboptions:
      name:
        description: The name of the probe, unique in the list, in printable ASCII.
        type: str
        required: true
      host:
        description:
          - The address to reach, of IPv4 or IPv6. Names are refused, since looking them up needs egress of its own.
            To see whether names are looked up, probe the resolver with O(probes[].payload=dns).
        type: str
        required: true
      protocol:
        description:
          - V(tcp) makes a connection and closes it again.
          - V(udp) sends a datagram with the O(probes[].payload), each second again until there is an answer.
          - V(icmp) sends an echo request of the family of O(probes[].host), each second. Only root may.
        type: str
        choices: [tcp, udp, icmp]
        required: true
      port:
        description:
          - The port, for V(tcp) and V(udp). Left out, it is that of the O(probes[].payload).
        type: int
      payload:
        description:
          - What a probe of V(udp) says.
          - V(dns) is a query, V(ntp) asks for the time. What comes back must answer that very question,
            whatever it says. A DNS server that refuses the query has been reached.
          - V(syslog) is a line of the priority user.debug, which the peer will log. V(none) is an empty datagram.
            As nobody answers these, silence is a measurement of its own, V(sent). It shows that neither this host
            nor anybody who would tell it holds them up, not that they arrive. It satisfies V(reachable), so that a
            peer that drops in silence cannot be shown to be V(blocked) by them.
        type: str
        choices: [dns, ntp, syslog, none]
        default: none
      query:
        description:
          - The name that O(probes[].payload=dns) asks the addresses of. V(.) asks for the name servers of the root.
        type: str
        default: .
      source:
        description: The address of this host to send from. Left out, the kernel chooses.
        type: str
      expect:
        description: What ought to be.
        type: str
        choices: [reachable, blocked]
        default: reachable
      timeout:
        description:
          - For how many seconds to wait, up to 60. Left out, V(3), or V(1) where no answer is to be expected
            (O(probes[].payload=syslog) and O(probes[].payload=none)).
          - A neighbour that is not there is V(unreachable) after about 3 seconds, and V(timed out) before.
        type: float
      group:
        description:
          - A name, in printable ASCII, that several probes share. Of the probes of one group that expect V(reachable),
            one has to be satisfied, such as one of two resolvers. It goes with O(probes[].expect=reachable) only.
        type: str
  strict:
    description: Whether the module fails if a probe does, or all probes of a O(probes[].group).
    type: bool
    default: true
seealso:
  - module: palisade.egress.egress_rule
"""

EXAMPLES = r"""
- name: See that the web server reaches what it needs, and nothing else
  palisade.egress.egress_probe:
    probes:
      - {name: resolver, host: 203.0.113.53, protocol: udp, payload: dns}
      - {name: resolver over IPv6, host: "2001:db8:2::53", protocol: udp, payload: dns, query: example.org}
      - {name: time, host: 203.0.113.123, protocol: udp, payload: ntp}
      - {name: log sink, host: 203.0.113.14, protocol: udp, payload: syslog}
      - {name: database, host: 198.51.100.12, protocol: tcp, port: 5432}
      - {name: directory 1, host: 203.0.113.36, protocol: tcp, port: 636, group: directories}
      - {name: directory 2, host: 203.0.113.37, protocol: tcp, port: 636, group: directories}
      - {name: no mail, host: 203.0.113.25, protocol: tcp, port: 25, expect: blocked}
      - {name: no ping, host: 203.0.113.25, protocol: icmp, expect: blocked}

- name: Look at the way from an address, whatever it is like
  palisade.egress.egress_probe:
    strict: false
    probes:
      - {name: mirror, host: 203.0.113.20, protocol: tcp, port: 443, source: 198.51.100.11, timeout: 1.5}
  register: seen
"""

RETURN = r"""
results:
  description: What became of each probe, in their order.
  type: list
  elements: dict
  returned: when the probes are valid
  sample:
    - name: no mail
      host: 203.0.113.25
      protocol: tcp
      port: 25
      expect: blocked
      measured: blocked here
      detail: no packet left this host
      ok: true
      group: null
      seconds: 3.001
  contains:
    name:
      description: The name of the probe.
      type: str
      returned: always
      sample: no mail
    host:
      description: The address.
      type: str
      returned: always
      sample: 203.0.113.25
    protocol:
      description: The protocol.
      type: str
      returned: always
      sample: tcp
    port:
      description: The port; null with V(icmp).
      type: int
      returned: always
      sample: 25
    expect:
      description: What was expected.
      type: str
      returned: always
      sample: blocked
    measured:
      description:
        - V(accepted), the connection was made, or an answer came.
        - V(sent), no answer was to be expected, and no error came.
        - V(refused), an ICMP error says that the port is unreachable. That is a closed port of UDP, or a firewall.
        - V(reset), TCP was told that nobody listens. That is a closed port, or a firewall.
        - V(unreachable), there is no route, or an ICMP error says anything else, such as administratively prohibited.
        - V(timed out), nothing came back.
        - V(blocked here), the packet did not leave. Rules of this host, or a route that prohibits, stopped it.
      type: str
      returned: always
      sample: blocked here
    detail:
      description: How that is known, such as who sent which error.
      type: str
      returned: always
      sample: no packet left this host
    ok:
      description: Whether it is what was expected of this probe, whatever others of its group measured.
      type: bool
      returned: always
      sample: true
    group:
      description: The group of the probe; null if it has none.
      type: str
      returned: always
      sample: directories
    seconds:
      description: How long it took.
      type: float
      returned: always
      sample: 3.001
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.palisade.egress.plugins.module_utils._module import run_module
from ansible_collections.palisade.egress.plugins.module_utils._probe import probe


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "probes": {"type": "list", "elements": "raw", "required": True},
            "strict": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    run_module(module, probe)


if __name__ == "__main__":
    main()
