# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants to users and groups, by processes that run as them: from the inventory to the packets."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from netns.test_expiry import FAMILIES, apply
from netns.test_flows import HERE, HERE6, THERE, Link, link

__all__ = ["link"]

# Users and groups that every Debian has: who delivers mail, and who answers browsers.
MAIL, WEB, ROOT = ("mail", "mail"), ("www-data", "www-data"), ("root", "root")
# Connects, or sends a datagram that is answered; a port that nobody listens on answers, too.
TRY = """
import socket, sys
kind, host, port = sys.argv[1:]
end = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, getattr(socket, kind))
end.settimeout(1)
try:
    end.connect((host, int(port)))
    end.send(b"x")
    end.recv(9)
except ConnectionRefusedError:
    pass
"""


def passes(link: Link, who: tuple[str, str], to: str, port: int, *also: str, kind: str = "SOCK_STREAM") -> bool:
    """Tell whether what a process of this user and group, in ``also`` these groups, sends is answered."""
    user, group = who
    groups = f"--groups={','.join(also)}" if also else "--clear-groups"
    owned = ["setpriv", f"--reuid={user}", f"--regid={group}", groups]
    return link.here.run([*owned, sys.executable, "-c", TRY, kind, to, str(port)]).code == 0


def mails(**owner: Any) -> list[dict[str, Any]]:
    return [{"service": service, "to": "peer", **owner} for service in ("smtp", "ntp")]


@FAMILIES
def test_row15_the_mail_server_sends_mail_and_the_web_server_does_not(link: Link, here: str, there: str) -> None:
    apply(link, mails())
    assert passes(link, WEB, there, 25)
    policy = mails(user="mail")
    apply(link, policy)
    assert apply(link, policy)["changed"] is False
    for kind, port in (("SOCK_STREAM", 25), ("SOCK_DGRAM", 123)):
        assert passes(link, MAIL, there, port, kind=kind)
        assert not passes(link, WEB, there, port, kind=kind)
        assert not passes(link, ROOT, there, port, kind=kind)
    assert not passes(link, MAIL, there, 80)


@FAMILIES
def test_row15_a_group_may_whoever_the_user_is(link: Link, here: str, there: str) -> None:
    apply(link, mails(group="mail"))
    for kind, port in (("SOCK_STREAM", 25), ("SOCK_DGRAM", 123)):
        assert passes(link, ("www-data", "mail"), there, port, kind=kind)
        assert not passes(link, ("mail", "www-data"), there, port, kind=kind)
    # What counts is the group that a process runs as, not those that it is a member of besides.
    assert not passes(link, WEB, there, 25, "mail")


@FAMILIES
def test_row15_users_and_groups_together_and_several_of_them(link: Link, here: str, there: str) -> None:
    apply(link, mails(user=["mail", "www-data"], group="mail"))
    assert passes(link, MAIL, there, 25)
    assert passes(link, ("www-data", "mail"), there, 25)
    assert not passes(link, WEB, there, 25)
    assert not passes(link, ("root", "mail"), there, 25)


@FAMILIES
def test_row15_a_forbid_stops_the_user_who_is_granted(link: Link, here: str, there: str) -> None:
    ports = {"protocol": "tcp", "ports": ["7000-7001"]}
    forbid = {"name": "f", "service": {"protocol": "tcp", "ports": [7000]}}
    apply(link, [{"service": ports, "to": "peer", "user": "mail"}], forbid__here=[forbid])
    assert not passes(link, MAIL, there, 7000)
    assert passes(link, MAIL, there, 7001)


METADATA = ("169.254.169.254", "168.63.129.16", "fd00:ec2::254")


@pytest.fixture
def cloud(link: Link) -> Link:
    """Return a host whose neighbour is the cloud that it runs in."""
    for address in METADATA:
        length, source = (128, HERE6) if ":" in address else (32, HERE)
        link.there.must(f"ip address add {address}/{length} dev wire" + (" nodad" if ":" in address else ""))
        link.here.must(f"ip route add {address}/{length} dev wire src {source}")
    return link


SWITCHED_ON = {"profiles": {"cloud": {"groups": ["all"]}}}


@pytest.mark.parametrize("address", METADATA)
def test_row15_root_alone_reaches_the_metadata_of_its_cloud(cloud: Link, address: str) -> None:
    apply(cloud, [], groups={"all": ["here"]})
    assert not passes(cloud, ROOT, address, 80)
    apply(cloud, [], groups={"all": ["here"]}, **SWITCHED_ON)
    for port, may in ((80, True), (32526, True), (443, False)):
        assert passes(cloud, ROOT, address, port) is may
        assert not passes(cloud, WEB, address, port)
    assert not passes(cloud, ROOT, THERE, 80)


@pytest.mark.parametrize("address", METADATA)
def test_row15_the_web_may_be_granted_without_the_metadata(cloud: Link, address: str) -> None:
    for to, may in (("internet", False), ("any", True)):
        apply(cloud, [{"service": "http", "to": to}], groups={"all": ["here"]}, **SWITCHED_ON)
        assert passes(cloud, ROOT, address, 80)
        assert passes(cloud, WEB, address, 80) is may
