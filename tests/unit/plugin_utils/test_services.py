# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that ship."""

from __future__ import annotations

import pytest

from ansible_collections.palisade.egress.plugins.module_utils._values import format_ports
from ansible_collections.palisade.egress.plugins.plugin_utils._catalogue import SERVICES
from ansible_collections.palisade.egress.plugins.plugin_utils._policy import Part
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place
from ansible_collections.palisade.egress.plugins.plugin_utils._services import icmp_types, read_services

# Those that people know, as `protocol/ports`; `<` stands before source ports.
KNOWN = r"""
dns            udp/53 tcp/53
ntp            udp/123
dhcp           udp/67<68 udp/547<546
ping           icmp/echo-request icmpv6/echo-request
smtp           tcp/25
submission     tcp/587
smtps          tcp/465
imap           tcp/143
imaps          tcp/993
pop3           tcp/110
pop3s          tcp/995
http           tcp/80
https          tcp/443
ftp            tcp/21
ssh            tcp/22
ldap           tcp/389
ldaps          tcp/636
kerberos       udp/88 tcp/88
syslog         udp/514 tcp/514
nfs            udp/2049 tcp/2049
smb            tcp/445
rdp            udp/3389 tcp/3389
postgresql     tcp/5432
mysql          tcp/3306
redis          tcp/6379
mongodb        tcp/27017
amqp           tcp/5672
kafka          tcp/9092
elasticsearch  tcp/9200
prometheus     tcp/9090
git            tcp/9418
rsync          tcp/873
wireguard      udp/51820
ipsec          udp/500,4500 esp
any            any
"""


def text(part: Part) -> str:
    if part.protocol in ("icmp", "icmpv6"):
        return f"{part.protocol}/{','.join(icmp_types(part))}"
    everything = ["0-65535"]
    ports, sources = format_ports(part.selector), format_ports(part.source_ports)
    shown = "" if ports == everything else f"/{','.join(ports)}"
    return f"{part.protocol}{shown}" + ("" if sources == everything else f"<{','.join(sources)}")


@pytest.mark.parametrize("line", KNOWN.strip().splitlines())
def test_known_service(line: str) -> None:
    name, *parts = line.split()
    assert [text(part) for part in read_services({}, Place("x"))[name].parts] == parts


def test_at_least_sixty_ship_and_all_can_be_read() -> None:
    services = read_services({}, Place("x"))
    assert len(services) >= 60
    assert list(services) == list(SERVICES)


def test_one_definition_may_have_several_protocols() -> None:
    mine = read_services({"mine": {"protocol": ["tcp", "udp"], "ports": [7, "8-9"]}}, Place("x"))["mine"]
    assert [text(part) for part in mine.parts] == ["tcp/7-9", "udp/7-9"]
