# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501  # a case is a line
"""Each line is an inventory that must not compile, and what its author reads.

where it is set | variable | value in YAML | place | problem | mend
"""

from __future__ import annotations

import pytest
import yaml
from unit.plugin_utils.sites import changed

from ansible_collections.palisade.egress.plugins.module_utils._errors import PolicyError

TABLE = r"""
# Names that are not there
all  | allow__web      | [{service: htps, to: any}]                 | allow__web[0].service on host web1 | unknown service 'htps' | Did you mean 'https'?
all  | allow__web      | [{service: ssh, to: relay}]                | allow__web[0].to on host web1      | unknown network 'relay' | Did you mean 'relays'?
all  | allow__web      | [{service: ssh, to: [any, group:wbe]}]     | allow__web[0].to[1] on host web1   | unknown group 'wbe' | Did you mean 'web'?
all  | allow__web      | [{service: ssh, to: host:web9}]            | allow__web[0].to on host web1      | unknown host 'web9' | Did you mean 'web2'?
all  | allow__web      | [{service: ssh, to: 'group:'}]             | allow__web[0].to on host web1      | unknown group '' | Write group:
all  | allow__web      | [{service: ssh, to: grp:web}]              | allow__web[0].to on host web1      | unknown network 'grp:web' | Did you mean 'group'?
all  | allow__wbe      | []                                         | allow__wbe on host mail1           | no group or host is called 'wbe' | Did you mean 'web'?
all  | forbid__web     | [smpt]                                     | forbid__web[0] on host web1        | unknown service 'smpt' | Did you mean 'smtp'?
all  | forbid__web     | [{service: smpt}]                          | forbid__web[0].service on host web1 | unknown service 'smpt' | egress_firewall_services
all  | forbid__web     | [{service: smtp, except: relay}]           | forbid__web[0].except on host web1 | unknown network 'relay' | Did you mean 'relays'?
all  | profiles        | {mial: {grants: []}}                       | profiles.mial                      | unknown profile 'mial' | Did you mean 'mail'?
all  | profiles        | {mail: {groups: [mial]}}                   | profiles.mail.groups[0]            | unknown group 'mial' | Did you mean 'mail'?
all  | networks__web   | {resolver: []}                             | networks__web.resolver on host web1 | no network 'resolver' | Did you mean 'resolvers'?
all  | profile         | {}                                         | profile on host mail1              | unknown variable | Did you mean 'egress_firewall_profiles'?
all  | alow__web       | []                                         | alow__web on host mail1            | unknown variable | Did you mean 'egress_firewall_allow'?
web1 | adresses        | [198.51.100.11]                            | adresses on host web1              | unknown variable | Did you mean 'egress_firewall_addresses'?
all  | allow           | []                                         | allow on host mail1                | needs a suffix | egress_firewall_allow__web
all  | allow__         | []                                         | allow__ on host mail1              | needs a suffix | egress_firewall_allow__web
all  | xyzzy           | 1                                          | xyzzy on host mail1                | unknown variable | Mend it or take it out
# Suffixes
all  | allow__app_x    | []                                         | allow__app_x on host mail1         | means group app-x and group app_x | Rename
web2 | allow__web      | []                                         | allow__web on host web2            | host web1, which that means, does not show it | in the variables of group web
mail1 | allow__web     | []                                         | allow__web on host mail1           | host web1, which that means, does not show it | group_vars/all
web2 | allow__web_eu   | [{service: htps, to: any}]                 | allow__web_eu[0].service on host web2 | unknown service 'htps' | Did you mean 'https'?
# Wrong types
all  | allow__web      | {service: ssh, to: any}                    | allow__web on host web1            | a mapping stands where a list belongs | [{service: https, to: mirrors}]
all  | allow__web      | https                                      | allow__web on host web1            | 'https' stands where a list belongs | Write it like
all  | allow__web      | ~                                          | allow__web on host web1            | nothing (null) stands where a list belongs | Write it like
all  | allow__web      | 7                                          | allow__web on host web1            | the number 7 stands where a list belongs | Write it like
all  | allow__web      | [https]                                    | allow__web[0] on host web1         | 'https' stands where a mapping belongs | {service: https, to: mirrors}
all  | allow__web      | [~]                                        | allow__web[0] on host web1         | nothing (null) stands where a mapping belongs | Write it like
all  | allow__web      | [{service: 443, to: any}]                  | allow__web[0].service on host web1 | the number 443 stands where the name of a service | Write it like https
all  | allow__web      | [{service: [http, https], to: any}]        | allow__web[0].service on host web1 | a list stands where the name of a service | one a grant
all  | allow__web      | [{service: https}]                         | allow__web[0] on host web1         | the grant has no 'to' | to: mirrors
all  | allow__web      | [{to: any}]                                | allow__web[0] on host web1         | the grant has no 'service' | service: https
all  | allow__web      | [{service: https, to: []}]                 | allow__web[0].to on host web1      | an empty list | nothing never means all
all  | allow__web      | [{service: https, to: ~}]                  | allow__web[0].to on host web1      | nothing (null) stands where text belongs | Write it like
all  | allow__web      | [{service: https, to: {include: any}}]     | allow__web[0].to on host web1      | a mapping stands where text belongs | Write it like
all  | allow__web      | [{service: https, to: [[any]]}]            | allow__web[0].to[0] on host web1   | a list stands where text belongs | Write it like
all  | allow__web      | [{service: https, to: ''}]                 | allow__web[0].to on host web1      | empty text | Write it like
all  | allow__web      | [{service: https, to: any, 7: 8}]          | allow__web[0] on host web1         | the key the number 7 is not a name | quotes
all  | allow__web      | [{service: https, to: any, usr: root}]     | allow__web[0] on host web1         | unknown key 'usr' | Did you mean 'user'?
all  | forbid__web     | [{service: smtp, too: any}]                | forbid__web[0] on host web1        | unknown key 'too' | Did you mean 'to'?
all  | forbid__web     | smtp                                       | forbid__web on host web1           | 'smtp' stands where a list belongs | [smtp or
all  | forbid__web     | [{to: any}]                                | forbid__web[0] on host web1        | the forbid has no 'service' | Write it like
all  | forbid__web     | [{service: smtp, name: 'a b'}]             | forbid__web[0].name on host web1   | 'a b' cannot be a name | letters, digits
all  | forbid__web     | [{service: smtp, except: []}]              | forbid__web[0].except on host web1 | an empty list | Write it like
all  | forbid__web     | [{service: smtp, except: any}]             | forbid__web[0] on host web1        | it forbids nothing | Mend 'to' and 'except'
all  | forbid__web     | [{service: smtp, verdict: accept}]         | forbid__web[0].verdict on host web1 | 'accept' is not possible here | drop or reject
all  | forbid__web     | [{service: smtp, reject_with: tcp-reset}]  | forbid__web[0].reject_with on host web1 | goes with verdict: reject only | Add that
all  | forbid__web     | [{service: smtp, verdict: drop, reject_with: tcp-reset}] | forbid__web[0].reject_with on host web1 | goes with verdict: reject only | or leave it out
all  | forbid__web     | [{service: smtp, verdict: reject, reject_with: tcp-rst}] | forbid__web[0].reject_with on host web1 | 'tcp-rst' is not possible here | Did you mean 'tcp-reset'?
all  | forbid__web     | [{service: ntp, verdict: reject, reject_with: tcp-reset}] | forbid__web[0].reject_with on host web1 | answers TCP only, which ntp is not | Choose another answer
all  | networks__web   | [resolvers]                                | networks__web on host web1         | a list stands where a mapping belongs | Write it like
web1 | addresses       | 198.51.100.11                              | addresses on host web1             | '198.51.100.11' stands where a list belongs | [198.51.100.54
web1 | addresses       | ~                                          | addresses on host web1             | nothing (null) stands where a list belongs | Write it like
web1 | addresses       | [~]                                        | addresses[0] on host web1          | None is not text | quotes
web1 | addresses       | [{a: b}]                                   | addresses[0] on host web1          | is not text | quotes
web1 | managed         | 'no'                                       | managed on host web1               | 'no' stands where true or false belongs | without quotes
web1 | managed         | ~                                          | managed on host web1               | nothing (null) | Write true or false
web1 | router          | true                                       | router on host web1                | true stands where a mapping belongs | Write it like
# Addresses
web1 | addresses       | [198.51.100.11/24]                         | addresses[0] on host web1          | has bits set behind its prefix | 198.51.100.0/24
web1 | addresses       | [web1.example.org]                         | addresses[0] on host web1          | is not an address or CIDR | Write it like
web1 | addresses       | [127.0.0.1]                                | addresses[0] on host web1          | has loopback, multicast or unspecified addresses in it | others reach
web1 | addresses       | [0.0.0.0/0]                                | addresses[0] on host web1          | has loopback, multicast or unspecified addresses in it | others reach
web1 | addresses       | ['fe80::1%eth0']                           | addresses[0] on host web1          | is not an address or CIDR | Write it like
web1 | addresses       | []                                         | addresses on host web1             | the host has no address | egress_firewall_managed: false
all  | allow__web      | [{service: ssh, to: host:printer1}]        | allow__web[0].to on host web1      | printer1, which has no address | Set egress_firewall_addresses of printer1
all  | allow__web      | [{service: ssh, to: group:office}]         | allow__web[0].to on host web1      | printer1, which has no address | Set egress_firewall_addresses of printer1
all  | allow__web      | [{service: ssh, to: group:nobody}]         | allow__web[0].to on host web1      | the group 'nobody' has no hosts | Put hosts into it
all  | allow__web      | [{service: ssh, to: web1}]                 | allow__web[0].to on host web1      | 'web1' is a host of the inventory | Write host:web1
all  | allow__web      | [{service: ssh, to: office}]               | allow__web[0].to on host web1      | 'office' is a group of the inventory | Write group:office
all  | allow__web      | [{service: ssh, to: www.example.org}]      | allow__web[0].to on host web1      | names are not looked up | Write its addresses
all  | allow__web      | [{service: ssh, to: 10.0.0.1/8}]           | allow__web[0].to on host web1      | has bits set behind its prefix | 10.0.0.0/8
all  | allow__web      | [{service: ssh, to: 10.0.0.0/33}]          | allow__web[0].to on host web1      | no prefix length of 0 to 32 | Write it like
all  | allow__web      | [{service: ssh, to: 10.0.0}]               | allow__web[0].to on host web1      | is not an address or CIDR | Write it like
all  | allow__web      | [{service: ssh, to: '2001:db8::g'}]        | allow__web[0].to on host web1      | is not an address or CIDR | Write it like
all  | allow__web      | [{service: ssh, to: 10.0.0.1-10.0.0.9}]    | allow__web[0].to on host web1      | names are not looked up | addresses
# Networks
all  | networks        | {time_servers: []}                         | networks.resolvers on host mail1   | it is not set | to [] for none
all  | networks        | {resolvers: []}                            | networks.time_servers on host mail1 | it is not set | to [] for none
all  | networks        | {resolvers: ~, time_servers: []}           | networks.resolvers                 | nothing (null) stands where a list belongs | [] for none
all  | networks        | []                                         | networks                           | a list stands where a mapping belongs | Write it like
all  | networks        | {resolvers: 53, time_servers: []}          | networks.resolvers                 | the number 53 stands where a list belongs | Write it like
all  | networks        | {resolvers: [], time_servers: [], any: []} | networks.any                       | cannot be redefined | another name
all  | networks        | {resolvers: [], time_servers: [], 'a:b': []} | networks.a:b                     | cannot be a name | letters, digits
all  | networks        | {resolvers: [a], time_servers: [], a: [b], b: a} | networks.a                   | it contains itself: a → b → a | Take one of these names out
all  | networks        | {resolvers: [], time_servers: [], a: {include: 10.0.0.0/8, except: any}} | networks.a | nothing is left of it | Write []
all  | networks        | {resolvers: [], time_servers: [], a: {except: any}} | networks.a                | it has no 'include' | {include: any
all  | networks        | {resolvers: [], time_servers: [], a: {include: any, exept: any}} | networks.a    | unknown key 'exept' | Did you mean 'except'?
all  | networks        | {resolvers: [], time_servers: [], a: mirrors} | networks.a                      | the network 'mirrors' is not defined | Define mirrors
all  | networks        | {resolvers: [], time_servers: [], a: [group:nobody]} | networks.a               | the group 'nobody' has no hosts | Put hosts into it
all  | networks        | {resolvers: [ns1], time_servers: []}       | networks.resolvers[0]              | 'ns1' is a host of the inventory | Write host:ns1
all  | allow__web      | [{service: ssh, to: mirrors}]              | allow__web[0].to on host web1      | the network 'mirrors' is not defined | Define mirrors in egress_firewall_networks
all  | allow__web      | [{service: ssh, to: time_servers}]         | allow__web[0].to on host web1      | time_servers has no addresses | take the grant out
all  | forbid__web     | [{service: ssh, to: mirrors}]              | forbid__web[0].to on host web1     | the network 'mirrors' is not defined | Define mirrors
all  | forbid__web     | [{service: ssh, to: time_servers}]         | forbid__web[0] on host web1        | it forbids nothing | take it out
web1 | networks        | {resolvers: [], time_servers: []}          | networks on host web1              | host mail1 shows another value | in group_vars/all
# Services
all  | services        | []                                         | services                           | a list stands where a mapping belongs | my_service
all  | services        | {smtp: {protocol: tcp, ports: [2525]}}     | services.smtp                      | ships with the collection | another name
all  | services        | {'my service': {protocol: tcp}}            | services.my service                | cannot be a name | letters, digits
all  | services        | {x: {ports: [1]}}                          | services.x                         | it has no protocol | protocol: tcp
all  | services        | {x: []}                                    | services.x                         | an empty list | Write it like
all  | services        | {x: tcp}                                   | services.x                         | 'tcp' stands where a mapping belongs | Write it like
all  | services        | {x: {protocol: tpc, ports: [1]}}           | services.x.protocol                | unknown protocol 'tpc' | one of
all  | services        | {x: {protocol: [], ports: [1]}}            | services.x.protocol                | an empty list | tcp or [tcp, udp]
all  | services        | {x: {protocol: 256}}                       | services.x.protocol                | unknown protocol 256 | 0 to 255
all  | services        | {x: {protocol: tcp, ports: [70000]}}       | services.x.ports                   | port 70000 is out of range | 0 to 65535
all  | services        | {x: {protocol: tcp, ports: []}}            | services.x.ports                   | an empty list | never means all
all  | services        | {x: {protocol: tcp, ports: [20-10]}}       | services.x.ports                   | reversed | 10-20
all  | services        | {x: {protocol: tcp, ports: [ssh]}}         | services.x.ports                   | 'ssh' is not a port | a number such as
all  | services        | {x: {protocol: tcp, ports: [true]}}        | services.x.ports                   | True is not a port | a number such as
all  | services        | {x: {protocol: esp, ports: [1]}}           | services.x.ports                   | the protocol esp has no ports | Only tcp
all  | services        | {x: {protocol: tcp, port: [1]}}            | services.x                         | unknown key 'port' | Did you mean 'ports'?
all  | services        | {x: {protocol: tcp, icmp_types: [8]}}      | services.x.icmp_types              | has no ICMP types | Only icmp
all  | services        | {x: {protocol: icmp, icmp_types: [ecko]}}  | services.x.icmp_types              | unknown icmp type 'ecko' | echo-request
all  | services        | {x: {protocol: icmp, family: ipv6}}        | services.x.family                  | icmp does not exist in ipv6 | Leave the family out
all  | services        | {x: {protocol: tcp, family: inet}}         | services.x.family                  | 'inet' is not possible here | any or ipv4 or ipv6
all  | services        | {x: [{protocol: tcp}, {protocol: tcpp}]}   | services.x[1].protocol             | unknown protocol 'tcpp' | one of
# Grants' other keys
all  | allow__web      | [{service: dhcp, to: any}]                 | allow__web[0] on host web1         | must name an interface | interface: eth0
all  | allow__web      | [{service: ssh, to: any, interface: []}]   | allow__web[0].interface on host web1 | an empty list | never means all
all  | allow__web      | [{service: ssh, to: any, interface: a/b}]  | allow__web[0].interface on host web1 | 'a/b' is not | interface
all  | allow__web      | [{service: ssh, to: any, user: [a b]}]     | allow__web[0].user on host web1    | 'a b' is not | user
all  | allow__web      | [{service: ssh, to: any, user: ~}]         | allow__web[0].user on host web1    | None | user
all  | allow__web      | [{service: ssh, to: any, group: {a: b}}]   | allow__web[0].group on host web1   | is not | group
all  | allow__web      | [{service: ssh, to: any, limit: fast}]     | allow__web[0].limit.rate on host web1 | 'fast' is not a rate | 20/second
all  | allow__web      | [{service: ssh, to: any, limit: {burst: 5}}] | allow__web[0].limit on host web1 | it has no rate | 20/second
all  | allow__web      | [{service: ssh, to: any, limit: {rate: 5/day, burst: 0}}] | allow__web[0].limit.burst on host web1 | not a number of packets | from 1
all  | allow__web      | [{service: ssh, to: any, limit: {rate: 5/day, burst: 65536}}] | allow__web[0].limit.burst on host web1 | not a number of packets | from 1 to 65535
all  | allow__web      | [{service: ssh, to: any, limit: {rate: 5/day, per: host}}] | allow__web[0].limit.per on host web1 | 'host' is not possible here | Write none or source
all  | allow__web      | [{service: ssh, to: any, limit: {rate: 5/day, mode: over}}] | allow__web[0].limit on host web1 | unknown key 'mode' | Write it like
all  | allow__web      | [{service: ssh, to: any, expires: 2027-01-31}] | allow__web[0].expires on host web1 | is not a time in UTC | 2027-01-31T00:00:00Z
all  | allow__web      | [{service: ssh, to: any, expires: 2027-01-31 10:00:00}] | allow__web[0].expires on host web1 | is not a time in UTC | Z
all  | allow__web      | [{service: ssh, to: any, expires: tomorrow}] | allow__web[0].expires on host web1 | is not a time in UTC | quotes
all  | allow__web      | [{service: ssh, to: any, reason: ~}]       | allow__web[0].reason on host web1  | nothing (null) stands where text | Write it like
all  | allow__web      | [{service: ssh, to: any, containers: x}]   | allow__web[0].containers on host web1 | 'x' stands where true or false belongs | without quotes
# Accepts, whatever the mode of input
all  | accept          | [] | accept on host mail1 | needs a suffix | egress_firewall_accept__web
all  | accepts__web    | [] | accepts__web on host mail1 | unknown variable | Did you mean 'egress_firewall_accept'?
all  | accept__wbe     | [] | accept__wbe on host mail1 | no group or host is called 'wbe' | Did you mean 'web'?
web2 | accept__web     | [] | accept__web on host web2 | host web1, which that means, does not show it | in the variables of group web
all  | accept__web     | ~ | accept__web on host web1 | nothing (null) stands where a list belongs | [{service: ssh, from: group:bastion}]
all  | accept__web     | {service: ssh, from: any} | accept__web on host web1 | a mapping stands where a list belongs | Write it like
all  | accept__web     | [ssh] | accept__web[0] on host web1 | 'ssh' stands where a mapping belongs | Write it like {service: ssh, from: group:bastion}
all  | accept__web     | [{service: ssh}] | accept__web[0] on host web1 | the accept has no 'from' | from: group:bastion
all  | accept__web     | [{from: any}] | accept__web[0] on host web1 | the accept has no 'service' | service: ssh
all  | accept__web     | [{service: ssh, to: any}] | accept__web[0] on host web1 | unknown key 'to' | Write it like {service: ssh, from: group:bastion}
all  | accept__web     | [{service: ssh, from: any, user: root}] | accept__web[0] on host web1 | unknown key 'user' | Write it like
all  | accept__web     | [{service: shs, from: any}] | accept__web[0].service on host web1 | unknown service 'shs' | Did you mean 'ssh'?
all  | accept__web     | [{service: ssh, from: relay}] | accept__web[0].from on host web1 | unknown network 'relay' | Did you mean 'relays'?
all  | accept__web     | [{service: ssh, from: [any, group:wbe]}] | accept__web[0].from[1] on host web1 | unknown group 'wbe' | Did you mean 'web'?
all  | accept__web     | [{service: ssh, from: []}] | accept__web[0].from on host web1 | an empty list | nothing never means all
all  | accept__web     | [{service: ssh, from: mirrors}] | accept__web[0].from on host web1 | the network 'mirrors' is not defined | Define mirrors
all  | accept__web     | [{service: ssh, from: time_servers}] | accept__web[0].from on host web1 | time_servers has no addresses | take the accept out
all  | accept__web     | [{service: ssh, from: host:printer1}] | accept__web[0].from on host web1 | printer1, which has no address | Set egress_firewall_addresses of printer1
all  | accept__web     | [{service: {protocol: icmpv6}, from: relays}] | accept__web[0] on host web1 | icmpv6 and relays have no IP family in common | Name addresses of the family
all  | accept__web     | [{service: dhcp, from: any}] | accept__web[0] on host web1 | an accept of dhcp must name an interface | interface: eth0
all  | accept__web     | [{service: ssh, from: any, interface: a/b}] | accept__web[0].interface on host web1 | 'a/b' is not | interface
all  | accept__web     | [{service: ssh, from: any, limit: fast}] | accept__web[0].limit.rate on host web1 | 'fast' is not a rate | 20/second
all  | accept__web     | [{service: ssh, from: any, limit: ~}] | accept__web[0].limit on host web1 | nothing (null) stands where a mapping belongs | 20/second
all  | accept__web     | [{service: ssh, from: any, expires: tomorrow}] | accept__web[0].expires on host web1 | is not a time in UTC | quotes
all  | accept__web     | [{service: ssh, from: any, reason: ~}] | accept__web[0].reason on host web1 | nothing (null) stands where text | Write it like
all  | profiles        | {web: {accepts: [ssh]}} | profiles.web.accepts[0] | 'ssh' stands where a mapping belongs | Write it like {service: ssh, from: group:bastion}
all  | profiles        | {web: {accepts: [{service: ssh, from: mirrors}]}} | profiles.web.accepts[0].from on host web1 | the network 'mirrors' is not defined | Define mirrors
# Waivers
all  | waivers__web | ~ | waivers__web on host web1 | nothing (null) stands where a list belongs | [{forbid: web/smtp, service: smtp, to: relays
all  | waivers__web | {forbid: web/smtp} | waivers__web on host web1 | a mapping stands where a list belongs | owner: ops
all  | waivers__web | web/smtp | waivers__web on host web1 | 'web/smtp' stands where a list belongs | Write it like [{forbid
all  | waivers__web | [web/smtp] | waivers__web[0] on host web1 | 'web/smtp' stands where a mapping belongs | Write it like {forbid
all  | waivers__web | [~] | waivers__web[0] on host web1 | nothing (null) stands where a mapping belongs | Write it like {forbid
all  | waivers__web | [{service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | the waiver has no 'forbid' | expires: "2027-01-31T00:00:00Z"}
all  | waivers__web | [{forbid: web/smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | the waiver has no 'service' | expires: "2027-01-31T00:00:00Z"}
all  | waivers__web | [{forbid: web/smtp, service: smtp, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | the waiver has no 'to' | expires: "2027-01-31T00:00:00Z"}
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | the waiver has no 'reason' | expires: "2027-01-31T00:00:00Z"}
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | the waiver has no 'owner' | expires: "2027-01-31T00:00:00Z"}
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o}] | waivers__web[0] on host web1 | the waiver has no 'expires' | expires: "2027-01-31T00:00:00Z"}
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z", until: tomorrow}] | waivers__web[0] on host web1 | unknown key 'until' | Write it like {forbid
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z", reson: x}] | waivers__web[0] on host web1 | unknown key 'reson' | Did you mean 'reason'?
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z", except: any}] | waivers__web[0] on host web1 | unknown key 'except' | Write it like {forbid
all  | waivers__web | [{forbid: web/smpt, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].forbid on host web1 | this host has no forbid 'web/smpt', so that the waiver exempts nothing | Did you mean 'web/smtp'?
all  | waivers__web | [{forbid: smtp, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].forbid on host web1 | this host has no forbid 'smtp' | Did you mean 'web/smtp'?
all  | waivers__web | [{forbid: mail/dns, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].forbid on host web1 | this host has no forbid 'mail/dns' | Known are web/smtp.
all  | waivers__web | [{forbid: '', service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].forbid on host web1 | empty text stands where text belongs | Write it like web/smtp
all  | waivers__web | [{forbid: ~, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].forbid on host web1 | nothing (null) stands where text belongs | Write it like web/smtp
all  | waivers__web | [{forbid: [web/smtp], service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].forbid on host web1 | a list stands where text belongs | Write it like web/smtp
all  | waivers__web | [{forbid: web/smtp, service: submission, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | it exempts nothing, as 'web/smtp' forbids smtp to any, and submission to relays is no part of that | Mend 'service' and 'to'
all  | waivers__web | [{forbid: web/smtp, service: {protocol: udp, ports: [25]}, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | udp-25 to relays is no part of that | Mend 'service' and 'to'
all  | waivers__web | [{forbid: web/smtp, service: smpt, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].service on host web1 | unknown service 'smpt' | Did you mean 'smtp'?
all  | waivers__web | [{forbid: web/smtp, service: 25, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].service on host web1 | the number 25 stands where the name of a service belongs | {protocol: tcp, ports: [8443]}
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relay, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].to on host web1 | unknown network 'relay' | Did you mean 'relays'?
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: [], reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].to on host web1 | an empty list | nothing never means all
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: mirrors, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].to on host web1 | the network 'mirrors' is not defined | Define mirrors
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: time_servers, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0] on host web1 | and smtp to time_servers is no part of that | take the waiver out
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: ~, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].reason on host web1 | nothing (null) stands where text belongs | ticket 4711
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: ' ', owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].reason on host web1 | empty text stands where text belongs | ticket 4711
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: '', expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].owner on host web1 | empty text stands where text belongs | Write it like ops
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: [ops], expires: "2026-12-31T00:00:00Z"}] | waivers__web[0].owner on host web1 | a list stands where text belongs | Write it like ops
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: ~}] | waivers__web[0].expires on host web1 | is not a time in UTC | 2027-01-31T00:00:00Z
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: never}] | waivers__web[0].expires on host web1 | 'never' is not a time in UTC | in quotes
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: 2026-12-31}] | waivers__web[0].expires on host web1 | is not a time in UTC | in quotes
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: "2027-06-03T00:00:00Z"}] | waivers__web[0].expires on host web1 | 2027-06-03T00:00:00Z is more than 366 days ahead | raise egress_firewall_waiver_days
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: 2090-12-31T00:00:00Z}] | waivers__web[0].expires on host web1 | is more than 366 days ahead | expire earlier
all  | waivers__web | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: "1969-12-31T23:59:59Z"}] | waivers__web[0].expires on host web1 | is not a time in UTC | in quotes
all  | waivers__wbe | [] | waivers__wbe on host mail1 | no group or host is called 'wbe' | Did you mean 'web'?
all  | waivers | [] | waivers on host mail1 | needs a suffix | egress_firewall_waivers__web
all  | waiver__web | [] | waiver__web on host mail1 | unknown variable | Did you mean 'egress_firewall_waivers'?
all  | waivers__mail | [{forbid: web/smtp, service: smtp, to: relays, reason: r, owner: o, expires: "2026-12-31T00:00:00Z"}] | waivers__mail[0].forbid on host mail1 | this host has no forbid 'web/smtp' | Known are mail/dns, mail/ftp
all  | waiver_days | 0 | waiver_days | a number stands where a number belongs | Write one from 1 to 36500
all  | waiver_days | -1 | waiver_days | a number stands where a number belongs | Write one from 1 to 36500
all  | waiver_days | 36501 | waiver_days | a number stands where a number belongs | Write one from 1 to 36500
all  | waiver_days | ~ | waiver_days | nothing (null) stands where a number belongs | Write one from 1 to 36500
all  | waiver_days | true | waiver_days | true stands where a number belongs | Write one from 1 to 36500
all  | waiver_days | 366d | waiver_days | text stands where a number belongs | Write one from 1 to 36500
all  | waiver_days | [1] | waiver_days | a list stands where a number belongs | Write one from 1 to 36500
all  | waiver_days | 1.5 | waiver_days | a number stands where a number belongs | Write one from 1 to 36500
web1  | waiver_days | 30 | waiver_days on host web1 | host mail1 does not show it | in group_vars/all
# Services on the spot
all  | forbid__web | [{service: {ports: [6000-6010]}}] | forbid__web[0].service on host web1 | it has no protocol | protocol: tcp
all  | forbid__web | [{service: {protocol: tpc}}] | forbid__web[0].service.protocol on host web1 | unknown protocol 'tpc' | one of
all  | forbid__web | [{service: {protocol: tcp, ports: 6010-6000}}] | forbid__web[0].service.ports on host web1 | reversed | 6000-6010
all  | forbid__web | [{service: {protocol: tcp, ports: []}}] | forbid__web[0].service.ports on host web1 | an empty list | never means all
all  | forbid__web | [{service: {protocol: tcp, port: 25}}] | forbid__web[0].service on host web1 | unknown key 'port' | Did you mean 'ports'?
all  | forbid__web | [{service: {protocol: esp, ports: [1]}}] | forbid__web[0].service.ports on host web1 | the protocol esp has no ports | Only tcp
all  | forbid__web | [{service: {}}] | forbid__web[0].service on host web1 | it has no protocol | protocol: tcp
all  | forbid__web | [{service: [smtp]}] | forbid__web[0].service on host web1 | a list stands where the name of a service belongs | protocol: tcp
all  | forbid__web | [{service: [{protocol: tcp}]}] | forbid__web[0].service on host web1 | a list stands where the name of a service belongs | protocol: tcp
all  | forbid__web | [{service: ~}] | forbid__web[0].service on host web1 | nothing (null) stands where the name of a service belongs | protocol: tcp
all  | forbid__web | [{service: {name: x, protocol: tcp}}] | forbid__web[0].service on host web1 | unknown key 'name' | Write it like
all  | forbid__web | [{service: {protocol: icmp, icmp_types: [ecko]}}] | forbid__web[0].service.icmp_types on host web1 | unknown icmp type 'ecko' | echo-request
all  | allow__web | [{service: {ports: [1]}, to: any}] | allow__web[0].service on host web1 | it has no protocol | protocol: tcp
all  | allow__web | [{service: {protocol: tcp, ports: [0-70000]}, to: any}] | allow__web[0].service.ports on host web1 | port 0-70000 is out of range | 0 to 65535
all  | forbid__web | [{protocol: tcp, ports: [25]}] | forbid__web[0] on host web1 | unknown key 'protocol' | {service: dns
all  | forbid__web | [{name: x, service: smtp, name2: y}] | forbid__web[0] on host web1 | unknown key 'name2' | Did you mean 'name'?
all  | allow__web | [{service: {protocol: icmpv6}, to: relays}] | allow__web[0] on host web1 | icmpv6 and relays have no IP family in common | Name addresses of the family
all  | allow__web | [{service: ssh, to: any, expires: '1969-01-01T00:00:00Z'}] | allow__web[0].expires on host web1 | is not a time in UTC | in quotes
# Contradictions with waivers
all  | allow__web | [{service: smtp, to: relays}] | allow__web[0] on host web1 | the forbid 'web/smtp' beats it | egress_firewall_waivers__web1: [{forbid: web/smtp, service: smtp, to: [relays], reason: …, owner: …, expires: "2026-07-01T00:00:00Z"}]
all  | allow__web | [{service: {protocol: tcp, ports: [25]}, to: [relays, any]}] | allow__web[0] on host web1 | the forbid 'web/smtp' beats it | service: {"protocol": "tcp", "ports": [25]}, to: [relays, any], reason
all  | allow__mail | [{service: dns, to: any}] | allow__mail[0] on host mail1 | the forbid 'mail/dns' beats it | {forbid: mail/dns, service: dns
# Settings
web1 | mode            | enfoce                                     | mode on host web1                  | 'enfoce' is not possible here | Did you mean 'enforce'?
web1 | default_verdict | accept                                     | default_verdict on host web1       | 'accept' is not possible here | drop or reject
web1 | default_verdict | ~                                          | default_verdict on host web1       | nothing (null) is not possible here | drop or reject
web1 | default_verdict | [drop]                                     | default_verdict on host web1       | a list is not possible here | drop or reject
web1 | reject_with     | icmp-port-unreachabel                      | reject_with on host web1           | 'icmp-port-unreachabel' is not possible here | Did you mean 'icmp-port-unreachable'?
web1 | input           | true                                       | input on host web1                 | true is not possible here | guard or closed or off
web1 | icmp            | [echo-request]                             | icmp on host web1                  | a list stands where a mapping belongs | {out: [echo-request], in: [echo-request]}
web1 | icmp            | {output: []}                               | icmp on host web1                  | unknown key 'output' | Did you mean 'out'?
web1 | icmp            | {out: echo-request}                        | icmp.out on host web1              | 'echo-request' stands where a list belongs | [echo-request], or [] for none
web1 | icmp            | {in: ~}                                    | icmp.in on host web1               | nothing (null) stands where a list belongs | or [] for none
web1 | icmp            | {in: [echo-request, ecko-request]}         | icmp.in[1] on host web1            | unknown ICMP type 'ecko-request' | Did you mean 'echo-request'?
web1 | icmp            | {out: [8]}                                 | icmp.out[0] on host web1           | unknown ICMP type the number 8 | Write a name like echo-request
web1 | icmp            | {out: [[echo-request]]}                    | icmp.out[0] on host web1           | unknown ICMP type a list | Write a name like echo-request
web1 | backend         | pf                                         | backend on host web1               | 'pf' is not possible here | auto or nftables or iptables
web1 | state           | false                                      | state on host web1                 | false is not possible here | present or absent
web1 | live_flows      | kill                                       | live_flows on host web1            | 'kill' is not possible here | end or keep
# Logging
web1 | log             | true                                       | log on host web1                   | true stands where a mapping belongs | or false for none
web1 | log             | ~                                          | log on host web1                   | nothing (null) stands where a mapping belongs | or false for none
web1 | log             | 10/second                                  | log on host web1                   | '10/second' stands where a mapping belongs | {rate: 10/second
web1 | log             | {rat: 10/second}                           | log on host web1                   | unknown key 'rat' | Did you mean 'rate'?
web1 | log             | {prefix: denied}                           | log on host web1                   | unknown key 'prefix' | Write it like {rate: 10/second
web1 | log             | {rate: 10}                                 | log.rate on host web1              | is not a rate | 20/second
web1 | log             | {rate: ~}                                  | log.rate on host web1              | is not a rate | 20/second
web1 | log             | {rate: 10/fortnight}                       | log.rate on host web1              | is not a rate | 20/second
web1 | log             | {group: 65536}                             | log.group on host web1             | a number stands where a number belongs | from 0 to 65535
web1 | log             | {group: true}                              | log.group on host web1             | true stands where a number belongs | from 0 to 65535
web1 | log             | {chains: output}                           | log.chains on host web1            | 'output' stands where a list belongs | [output, forward]
web1 | log             | {chains: []}                               | log.chains on host web1            | an empty list | egress_firewall_log: false
web1 | log             | {chains: [ouput]}                          | log.chains[0] on host web1         | 'ouput' is not possible here | Did you mean 'output'?
web1 | log             | {chains: [prerouting]}                     | log.chains[0] on host web1         | 'prerouting' is not possible here | output or input or forward
web1 | log             | {protocols: [tcp]}                         | log.protocols on host web1         | a list stands where true or false belongs | without quotes
web1 | logs            | {}                                         | logs on host web1                  | unknown variable | Did you mean 'egress_firewall_log'?
# Not there yet
web1 | backend         | iptables                                   | backend on host web1               | 'iptables' is not supported by this version | Take it out
all  | assertions      | [{from: any}]                              | assertions[0]                      | the assertion has no 'to' | Write it like {from: group:web
# Containers and forwarding
all  | allow__web      | [{service: ssh, to: any, containers: true}] | allow__web[0].containers on host web1 | the host does not have the profile container_host | Put it into the group container_host
all  | accept__web     | [{service: ssh, from: any, containers: true}] | accept__web[0].containers on host web1 | the host does not have the profile container_host | Put it into the group container_host
all  | profiles        | {web: {grants: [{service: ssh, to: any, containers: true}]}} | profiles.web.grants[0].containers on host web1 | does not have the profile container_host | Put it into the group
all  | allow__web      | [{service: ssh, to: any, containers: true, user: www}] | allow__web[0].user on host web1 | cannot tell who in a container sends a packet | Take it out
all  | allow__web      | [{service: ssh, to: any, containers: true, group: www}] | allow__web[0].group on host web1 | cannot tell who in a container sends a packet | Take it out
web1 | profiles        | {container_host: {groups: [web]}} | profiles on host web1 | it is for the whole fleet | group_vars/all
web1 | forwarding      | true                   | forwarding on host web1 | none of its profiles says where they may go | Put it into the group router or container_host
web1 | forwarding      | {ipv6: true}           | forwarding on host web1 | none of its profiles says where they may go | or turn it off
web1 | forwarding      | "no"                   | forwarding on host web1 | 'no' is not possible here | Write auto or on or off
web1 | forwarding      | {ipv5: false}          | forwarding on host web1 | unknown key 'ipv5' | Did you mean 'ipv6'?
web1 | forwarding      | {ipv4: "off"}          | forwarding.ipv4 on host web1 | 'off' stands where true or false belongs | without quotes
web1 | container_bridges | podman0              | container_bridges on host web1 | 'podman0' stands where a list belongs | [podman0, docker0]
web1 | container_bridges | ["br-*", "a b"]      | container_bridges on host web1 | is not the name of an interface | Write
# Probes
all  | profiles        | {web: {probes: {}}} | profiles.web.probes | a mapping stands where a list belongs | [{service: https, to: mirrors, expect: reachable}]
all  | profiles        | {web: {probes: [dns]}} | profiles.web.probes[0] | 'dns' stands where a mapping belongs | {service: https, to: mirrors
all  | profiles        | {web: {probes: [{service: dns, to: mirrors}]}} | profiles.web.probes[0].to on host web1 | the network 'mirrors' is not defined | Define mirrors
all  | profiles        | {base: {probes: [{service: ntp, to: time_servers}]}} | profiles.base.probes[0].to on host mail1 | time_servers has no addresses | Define it, or take the probe out
all  | probes          | [] | probes on host mail1 | needs a suffix | egress_firewall_probes__web
all  | probe__web      | [] | probe__web on host mail1 | unknown variable | Did you mean 'egress_firewall_probes'?
all  | probes__wbe     | [] | probes__wbe on host mail1 | no group or host is called 'wbe' | Did you mean 'web'?
all  | probes__web     | ~ | probes__web on host web1 | nothing (null) stands where a list belongs | Write it like [{service: https
all  | probes__web     | {service: dns, to: resolvers} | probes__web on host web1 | a mapping stands where a list belongs | Write it like [{service: https
all  | probes__web     | [dns] | probes__web[0] on host web1 | 'dns' stands where a mapping belongs | Write it like {service: https
all  | probes__web     | [{service: dns}] | probes__web[0] on host web1 | the probe has no 'to' | to: mirrors
all  | probes__web     | [{to: resolvers}] | probes__web[0] on host web1 | the probe has no 'service' | service: https
all  | probes__web     | [{service: dns, to: resolvers, expct: blocked}] | probes__web[0] on host web1 | unknown key 'expct' | Did you mean 'expect'?
all  | probes__web     | [{service: dns, to: resolvers, host: 192.0.2.1}] | probes__web[0] on host web1 | unknown key 'host' | Write it like {service: https
all  | probes__web     | [{service: dsn, to: resolvers}] | probes__web[0].service on host web1 | unknown service 'dsn' | Did you mean 'dns'?
all  | probes__web     | [{service: any, to: resolvers}] | probes__web[0].service on host web1 | any cannot be probed: that takes a port of tcp or udp | Name one, like {protocol: tcp, ports: [8443]}
all  | probes__web     | [{service: {protocol: tcp}, to: relays}] | probes__web[0].service on host web1 | tcp cannot be probed: that takes a port | Name one, like {protocol: tcp, ports: [8443]}
all  | probes__web     | [{service: {protocol: udp, ports: [0]}, to: relays}] | probes__web[0].service on host web1 | udp-0 cannot be probed: that takes a port | Name one, like
all  | probes__web     | [{service: {protocol: sctp, ports: [5060]}, to: relays}] | probes__web[0].service on host web1 | sctp-5060 cannot be probed: that takes a port of tcp or udp | Name one
all  | probes__web     | [{service: {protocol: icmp, icmp_types: [redirect]}, to: relays}] | probes__web[0].service on host web1 | icmp-redirect cannot be probed: that takes a port of tcp or udp, from any source port, or ping | Name one, like
all  | probes__web     | [{service: dhcp, to: relays}] | probes__web[0].service on host web1 | dhcp cannot be probed: that takes a port of tcp or udp, from any source port | Name one
all  | probes__web     | [{service: gre, to: relays}] | probes__web[0].service on host web1 | gre cannot be probed | Name one, like
all  | probes__web     | [{service: dns, to: resolver}] | probes__web[0].to on host web1 | unknown network 'resolver' | Did you mean 'resolvers'?
all  | probes__web     | [{service: dns, to: []}] | probes__web[0].to on host web1 | an empty list | nothing never means all
all  | probes__web     | [{service: https, to: mirrors}] | probes__web[0].to on host web1 | the network 'mirrors' is not defined | Define mirrors
all  | probes__web     | [{service: ntp, to: time_servers}] | probes__web[0].to on host web1 | time_servers has no addresses | Define it, or take the probe out
all  | probes__web     | [{service: https, to: 203.0.113.0/27}] | probes__web[0].to on host web1 | 203.0.113.0/27 has more than 16 addresses, each of which would be tried | Name single addresses
all  | probes__web     | [{service: https, to: [203.0.113.0/28, 198.51.100.1]}] | probes__web[0].to on host web1 | 203.0.113.0/28+198.51.100.1 has more than 16 addresses | Name single addresses
all  | probes__web     | [{service: https, to: any}] | probes__web[0].to on host web1 | any has more than 16 addresses | Name single addresses
all  | probes__web     | [{service: https, to: 127.0.0.1}] | probes__web[0].to on host web1 | 127.0.0.1 has loopback, multicast or unspecified addresses in it | of other hosts
all  | probes__web     | [{service: https, to: 'fe80::1'}] | probes__web[0].to on host web1 | 'fe80::1' is link-local, which needs an interface | write a global address
all  | probes__web     | [{service: {protocol: icmpv6}, to: relays}] | probes__web[0].to on host web1 | icmpv6 and relays have no IP family in common | Name addresses of the family
all  | probes__web     | [{service: dns, to: resolvers, expect: allowed}] | probes__web[0].expect on host web1 | 'allowed' is not possible here | Write reachable or blocked
all  | probes__web     | [{service: dns, to: resolvers, expect: ~}] | probes__web[0].expect on host web1 | nothing (null) is not possible here | Write reachable or blocked
all  | probes__web     | [{service: dns, to: resolvers, name: a b}] | probes__web[0].name on host web1 | 'a b' cannot be a name | letters, digits
all  | probes__web     | [{service: dns, to: resolvers, timeout: 61}] | probes__web[0].timeout on host web1 | 61 is not a timeout | more than 0 and up to 60
all  | probes__web     | [{service: dns, to: resolvers, timeout: 0}] | probes__web[0].timeout on host web1 | 0 is not a timeout | more than 0 and up to 60
all  | probes__web     | [{service: dns, to: resolvers, timeout: ~}] | probes__web[0].timeout on host web1 | None is not a timeout | Write seconds
all  | probes__web     | [{service: dns, to: resolvers, query: a..b}] | probes__web[0].query on host web1 | 'a..b' is not a domain name | example.org
all  | probes__web     | [{service: dns, to: resolvers, query: ~}] | probes__web[0].query on host web1 | must be text, not null | quotes
all  | probes__web     | [{service: ntp, to: resolvers, query: example.org}] | probes__web[0].query on host web1 | a probe of ntp asks for no name | Take it out, or probe dns
all  | probes__web     | [{service: {protocol: tcp, ports: [53]}, to: resolvers, query: a.example}] | probes__web[0].query on host web1 | a probe of tcp-53 asks for no name | probe dns
# Probes that can never be satisfied
all  | probes__web     | [{service: ssh, to: relays}] | probes__web[0] on host web1 | the probe 'web/ssh' expects 203.0.113.25 to be reachable, and the default, as no rule is about it, stops it | Mend the probe, or grant what it tries
all  | probes__web     | [{service: smtp, to: relays}] | probes__web[0] on host web1 | the probe 'web/smtp' expects 203.0.113.25 to be reachable, and the rule 'forbid/web/smtp' stops it | Mend the probe, or grant
all  | probes__web     | [{service: dns, to: resolvers, expect: blocked}] | probes__web[0] on host web1 | the probe 'web/dns' expects 198.51.100.53 to be blocked, and the rule 'base/dns/udp' lets it pass | Mend the probe, or forbid what it tries
all  | probes__web     | [{service: ping, to: 'host:ns1', expect: blocked}] | probes__web[0] on host web1 | 198.51.100.53 to be blocked, and the rule 'always/echo-request/icmp' lets it pass | or forbid what it tries
all  | probes__web     | [{service: postgresql, to: databases}, {service: ntp, to: ['host:db1', 'host:ns1']}] | probes__web[1] on host web1 | 'web/ntp' expects 198.51.100.13 to be reachable | Mend the probe
all  | profiles        | {web: {probes: [{service: ssh, to: relays}]}} | profiles.web.probes[0] on host web1 | the probe 'web/ssh' expects 203.0.113.25 to be reachable | Mend the probe, or grant
# Profiles
all  | profiles        | [mail]                                     | profiles                           | a list stands where a mapping belongs | Write it like
all  | profiles        | {mail: [smtp]}                             | profiles.mail                      | a list stands where a mapping belongs | Write it like
all  | profiles        | {mail: ~}                                  | profiles.mail                      | nothing (null) | Write it like
all  | profiles        | {mail: {grant: []}}                        | profiles.mail                      | unknown key 'grant' | Did you mean 'grants'?
all  | profiles        | {mail: {groups: web}}                      | profiles.mail.groups               | 'web' stands where a list belongs | [mail]
all  | profiles        | {mail: {groups: [7]}}                      | profiles.mail.groups[0]            | unknown group the number 7 | Name groups
all  | profiles        | {mail: {grants: [{service: x, to: any}]}}  | profiles.mail.grants[0].service    | unknown service 'x' | egress_firewall_services
all  | profiles        | {mail: {grants: [{service: ssh, to: mirrors}]}} | profiles.mail.grants[0].to on host mail1 | 'mirrors' is not defined | Define mirrors
all  | profiles        | {'no name': {groups: [web]}}               | profiles.no name                   | cannot be a name | letters, digits
# Logins
all  | controllers     | ~                                          | controllers                        | nothing (null) stands where text belongs | Write it like
all  | controllers     | 7                                          | controllers                        | the number 7 stands where text belongs | Write it like
all  | controllers     | {from: any}                                | controllers                        | a mapping stands where text belongs | Write it like
all  | controllers     | ''                                         | controllers                        | empty text stands where text belongs | Write it like
all  | controllers     | [192.0.2.7, host:awx]                      | controllers[1]                     | unknown host 'awx' | Write host:
all  | controllers     | [ns1]                                      | controllers[0]                     | 'ns1' is a host of the inventory | Write host:ns1
all  | controllers     | [awx.example.org]                          | controllers[0]                     | names are not looked up | Write its addresses
all  | controllers     | [mirrors]                                  | controllers[0]                     | the network 'mirrors' is not defined | Define mirrors
all  | controllers     | [group:nobody]                             | controllers[0]                     | the group 'nobody' has no hosts | Put hosts into it
all  | controllers     | [host:printer1]                            | controllers[0]                     | printer1, which has no address | Set egress_firewall_addresses of printer1
web1 | controllers     | [192.0.2.7]                                | controllers on host web1           | host mail1 does not show it | in group_vars/all
all  | controller      | [192.0.2.7]                                | controller on host mail1           | unknown variable | Did you mean 'egress_firewall_controllers'?
web1 | guard           | 'no'                                       | guard on host web1                 | 'no' stands where true or false belongs | without quotes
web1 | guard           | ~                                          | guard on host web1                 | nothing (null) | Write true or false
# Contradictions
all  | profiles        | {web: {groups: [mail]}}                    | shipped profiles.mail.grants[0] on host mail1 | 'mail/smtp' to relays, as the forbid 'web/smtp' beats it | take it out of one of mail, web
all  | allow__web      | [{service: smtp, to: relays}]              | allow__web[0] on host web1         | 'web/smtp' to relays, as the forbid 'web/smtp' beats it | Take the grant or the forbid out
all  | allow__all      | [{service: ftp, to: any}]                  | allow__all[0] on host mail1        | 'all/ftp' to any, as the forbid 'mail/ftp' beats it | take it out of one of all, mail
"""


def cases() -> list[tuple[str, ...]]:
    lines = (line for line in TABLE.strip().splitlines() if not line.startswith("#"))
    return [tuple(cell.strip() for cell in line.split(" | ")) for line in lines]


# What an audit must not do: let pass what it does not log.
@pytest.mark.parametrize("log", [False, {"chains": ["output", "input"]}, {"chains": ["forward"]}], ids=str)
def test_an_audit_must_log(log: object) -> None:
    with pytest.raises(PolicyError, match="egress_firewall_log on host web1: egress_firewall_mode is audit"):
        changed("web1", {"egress_firewall_mode": "audit", "egress_firewall_log": log})


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case[1]}={case[2]}"[:60])
def test_error_names_place_problem_and_mend(case: tuple[str, ...]) -> None:
    target, variable, value, place, what, mend = case
    with pytest.raises(PolicyError) as caught:
        changed(target, {f"egress_firewall_{variable}": yaml.safe_load(value)})
    error = caught.value
    expected = place if place.startswith("shipped") else f"egress_firewall_{place}"
    assert (error.where, what in error.what, mend in error.mend) == (expected, True, True), str(error)
