# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The jump hosts in what ssh is told, as people write it."""

from __future__ import annotations

import pytest

from ansible_collections.palisade.egress.plugins.plugin_utils._jumps import Hop, jumps, names_jumps

# What ssh is told, and the jump hosts in it.
SPELLINGS: list[tuple[str, tuple[Hop, ...] | None]] = [
    ("", None),
    ("-C -o ControlMaster=auto -o ControlPersist=60s", None),
    ("-J bastion1", (Hop("bastion1"),)),
    ("-Jbastion1", (Hop("bastion1"),)),
    ("-qJ bastion1", (Hop("bastion1"),)),
    ("-4 -i /keys/J -J admin@bastion1:2222", (Hop("bastion1", 2222),)),
    ("-J a@b@bastion1", (Hop("bastion1"),)),
    ("-J one,two@second:23,third", (Hop("one"), Hop("second", 23), Hop("third"))),
    ("-J [2001:db8::1]:2222", (Hop("2001:db8::1", 2222),)),
    ("-J admin@[2001:db8::1]", (Hop("2001:db8::1"),)),
    ("-J 2001:db8::1", (Hop("2001:db8::1"),)),
    ("-J ssh://admin@bastion1:2222/", (Hop("bastion1", 2222),)),
    ("-J ssh://[2001:db8::1]:2222", (Hop("2001:db8::1", 2222),)),
    ("-o ProxyJump=bastion1", (Hop("bastion1"),)),
    ("-oProxyJump=bastion1", (Hop("bastion1"),)),
    ("-o 'ProxyJump bastion1'", (Hop("bastion1"),)),
    ("-o'ProxyJump bastion1'", (Hop("bastion1"),)),
    ("-oproxyjump='one,two'", (Hop("one"), Hop("two"))),
    ("""-o 'ProxyJump = "bastion1"'""", (Hop("bastion1"),)),
    ("-o ProxyJump=none -J bastion1", ()),
    ("-o ProxyCommand=none", ()),
    ("-J first -o ProxyJump=second", (Hop("first"),)),
    ("-F /dev/null -i J -l -J", None),
    ("-o ProxyCommand='ssh -W %h:%p bastion1'", (Hop("bastion1"),)),
    ('-o ProxyCommand="ssh -W %h:%p -q ubuntu@bastion.example.org"', (Hop("bastion.example.org"),)),
    ("-o ProxyCommand='ssh -q -i key -p 2222 -W %h:%p bastion1'", (Hop("bastion1", 2222),)),
    ("-o ProxyCommand='ssh -o Port=2222 bastion1 -W %h:%p'", (Hop("bastion1", 2222),)),
    ("-o ProxyCommand='ssh -W[%h]:%p admin@2001:db8::1'", (Hop("2001:db8::1"),)),
    ("-o ProxyCommand='/usr/bin/ssh -A bastion1 nc -w 5 -p 7 %h %p'", (Hop("bastion1"),)),
    ("-o ProxyCommand='sshpass -e ssh -W %h:%p bastion1'", (Hop("bastion1"),)),
    ("-o ProxyCommand='ssh -J one -W %h:%p two'", (Hop("one"), Hop("two"))),
    ("""-o ProxyCommand='ssh -o ProxyCommand="ssh -W %h:%p one" -W %h:%p two'""", (Hop("one"), Hop("two"))),
    ("-o ProxyCommand='nc -X connect -x proxy:3128 %h %p'", ()),
    ("-o ProxyCommand='ssh -W %h:%p'", ()),
    ("-o ProxyCommand='ssh bastion1 connect elsewhere'", ()),
]


@pytest.mark.parametrize(("arguments", "expected"), SPELLINGS, ids=[text for text, _hops in SPELLINGS])
def test_spellings_of_jump_hosts(arguments: str, expected: tuple[Hop, ...] | None) -> None:
    assert jumps(arguments) == expected
    assert names_jumps(arguments) or not expected


@pytest.mark.parametrize("arguments", ["-J 'bastion1", "-J bastion1:0", "-J bastion1:65536", "-J b:999999999"])
def test_what_ssh_cannot_read_is_an_error(arguments: str) -> None:
    with pytest.raises(ValueError, match=r"quotation|port"):
        jumps(arguments)
