# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action through ``ansible-playbook``: what counts as inventory, what is written, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.plugin_utils.playbooks import LAB, run_play, write_inventory

from ansible_collections.palisade.egress.plugins.module_utils._connections import own_addresses
from ansible_collections.palisade.egress.plugins.module_utils._model import Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import merge
from ansible_collections.palisade.egress.plugins.module_utils._values import format_addresses

COMPILE = {"palisade.egress.egress_compile": {}, "register": "compiled", "run_once": True}
FILE = "{{ compiled.directory }}/{{ inventory_hostname | urlencode | replace('/', '%2F') }}.json"
POLICY = {"policy": "{{ lookup('ansible.builtin.file', file) | from_json }}", "file": FILE}
HOSTS = {"all": {"children": {"web": {"hosts": {"web1": {"ansible_host": "198.51.100.11"}}}}}}
NETWORKS = {"egress_firewall_networks": {"resolvers": ["198.51.100.53"], "time_servers": []}}


def check(*conditions: str) -> dict[str, Any]:
    return {"ansible.builtin.assert": {"that": list(conditions)}, "vars": POLICY}


def test_lab_compiles_to_a_file_a_host(tmp_path: Path) -> None:
    is_fenced = "'always/established' in policy.rules | map(attribute='name')"
    tasks = [COMPILE, {**check(is_fenced, "compiled.hosts == 5"), "when": "inventory_hostname != 'inet1'"}]
    code, output = run_play(tmp_path, LAB, {"tasks": tasks})
    assert code == 0, output


def test_directory_is_private_and_goes_when_ansible_ends(tmp_path: Path) -> None:
    keep = {"ansible.builtin.copy": {"content": "{{ found.stat | to_json }}", "dest": str(tmp_path / "stat")}}
    stat = {"ansible.builtin.stat": {"path": "{{ compiled.directory }}"}, "register": "found"}
    local = {"delegate_to": "localhost", "run_once": True, "vars": {"ansible_connection": "local"}}
    code, output = run_play(tmp_path, LAB, {"tasks": [COMPILE, {**stat, **local}, {**keep, **local}]})
    assert code == 0, output
    found = (tmp_path / "stat").read_text(encoding="utf-8")
    assert '"mode": "0700"' in found
    assert not Path(found.partition('"path": "')[2].partition('"')[0]).exists()


def test_file_name_is_what_jinja_computes_for_odd_host_names(tmp_path: Path) -> None:
    names = ["a/b", "a b", "ü", "x~y", "50%", "a?b=c&d"]
    hosts = {name: {"egress_firewall_addresses": ["198.51.100.7"]} for name in names}
    inventory = write_inventory(tmp_path / "inventory", {"all": {"hosts": hosts}}, {"all": NETWORKS})
    code, output = run_play(tmp_path, inventory, {"tasks": [COMPILE, check("policy.profiles == ['base']")]})
    assert code == 0, output


# id: group_vars, the play besides its tasks, command line, what comes of it
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], str]] = {
    "template": (
        {
            "all": {**NETWORKS, "site_db": "192.0.2.7"},
            "web": {"egress_firewall_allow__web": [{"service": "ssh", "to": "{{ site_db }}"}]},
        },
        {},
        [],
        "policy.rules | selectattr('name', 'eq', 'web/ssh') | map(attribute='destination') | first == ['192.0.2.7/32']",
    ),
    "template over hostvars": (
        {
            "all": NETWORKS,
            "web": {"egress_firewall_allow__web": [{"service": "ssh", "to": "{{ hostvars.web1.ansible_host }}"}]},
        },
        {},
        [],
        "['198.51.100.11/32'] in policy.rules | selectattr('name', 'eq', 'web/ssh') | map(attribute='destination')",
    ),
    "template that fails": (
        {"all": NETWORKS, "web": {"egress_firewall_allow__web": "{{ nobody_knows }}"}},
        {},
        [],
        "egress_firewall_allow__web on host web1: its template fails: 'nobody_knows' is undefined. Mend the template",
    ),
    "command line counts": (
        {"all": NETWORKS},
        {},
        ["-e", '{"egress_firewall_default_verdict": "reject"}'],
        "policy.chains.output.default == 'reject'",
    ),
    "play variable": (
        {"all": NETWORKS},
        {"vars": {"egress_firewall_allow__web": [{"service": "any", "to": "any"}]}},
        [],
        "egress_firewall_allow__web on host web1: a play, role or fact sets this, and policy comes from the inventory",
    ),
    "play variable that changes the inventory's": (
        {"all": NETWORKS},
        {"vars": {"egress_firewall_networks": {"resolvers": ["any"], "time_servers": []}}},
        [],
        "egress_firewall_networks on host web1: a play, role or fact sets this",
    ),
    "default of a role": (
        {"all": NETWORKS},
        {"vars": {"egress_firewall_mode": "enforce"}},
        [],
        "policy.settings.state == 'present'",
    ),
    "templates that only a play fills, and no jump host": (
        {
            "all": {
                **NETWORKS,
                "ansible_connection": "{{ plugin }}",
                "ansible_host": "{{ address }}",
                "ansible_port": "{{ port }}",
                "ansible_ssh_common_args": "-i {{ key }}",
                "egress_firewall_addresses": ["198.51.100.11"],
            }
        },
        {"vars": {"plugin": "ssh", "port": 2222, "key": "key", "address": "198.51.100.11"}},
        [],
        "policy.settings.guard",
    ),
    "jump host that only a play fills in": (
        {"all": {**NETWORKS, "ansible_ssh_common_args": "-J {{ bastion }}"}},
        {"vars": {"bastion": "bastion1"}},
        [],
        "ansible_ssh_common_args on host web1: its template fails: 'bastion' is undefined. Mend the template",
    ),
    "misspelt service": (
        {"all": NETWORKS, "web": {"egress_firewall_allow__web": [{"service": "htps", "to": "any"}]}},
        {},
        [],
        "egress_firewall_allow__web[0].service on host web1: unknown service 'htps'. Did you mean 'https'?",
    ),
}


@pytest.mark.parametrize(("group_vars", "play", "arguments", "expected"), CASES.values(), ids=CASES)
def test_what_counts_as_inventory(
    tmp_path: Path, group_vars: dict[str, Any], play: dict[str, Any], arguments: list[str], expected: str
) -> None:
    inventory = write_inventory(tmp_path / "inventory", HOSTS, group_vars)
    fails = " on host web1: " in expected
    tasks = [COMPILE] if fails else [COMPILE, check(expected)]
    code, output = run_play(tmp_path, inventory, {**play, "tasks": tasks}, *arguments)
    assert (code != 0) == fails, output
    assert not fails or expected in " ".join(output.split())
    assert "Traceback" not in output


def test_facts_do_not_count_even_from_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN", "jsonfile")
    inventory = write_inventory(tmp_path / "inventory", HOSTS, {"all": NETWORKS})
    grant = {"egress_firewall_allow__web": [{"service": "any", "to": "any"}], "cacheable": True}
    assert run_play(tmp_path, inventory, {"tasks": [{"ansible.builtin.set_fact": grant}]})[0] == 0
    assert "egress_firewall_allow__web" in next((tmp_path / "facts").glob("*web1")).read_text(encoding="utf-8")
    code, output = run_play(tmp_path, inventory, {"tasks": [COMPILE]})
    assert code != 0
    assert "a play, role or fact sets this" in output
    compiled = "hostvars | palisade.egress.egress_policy(groups) | to_json"
    show = {"ansible.builtin.assert": {"that": f"({compiled}) is not search('web/any')"}}
    code, output = run_play(tmp_path, inventory, {"tasks": [show]})
    assert code == 0, output


def test_a_jump_host_may_be_named_by_a_template(tmp_path: Path) -> None:
    hosts = {"web1": {"ansible_host": "198.51.100.11"}, "db1": {"ansible_host": "198.51.100.12"}}
    jump = {"bastion": "{{ groups.all | last }}", "ansible_ssh_common_args": "-o ProxyJump={{ bastion }}"}
    inventory = write_inventory(tmp_path / "inventory", {"all": {"hosts": hosts}}, {"all": {**NETWORKS, **jump}})
    code, output = run_play(tmp_path, inventory, {"tasks": [COMPILE]})
    assert code != 0
    expected = 'ansible_ssh_common_args on host web1: "Ansible logs in through db1" does not hold: db1 → web1'
    assert expected in " ".join(output.split())


def test_a_host_with_an_address_of_this_machine_is_the_controller(tmp_path: Path) -> None:
    mine = sorted(format_addresses(Addresses(ipv4=merge((n, n) for f, n in own_addresses() if f == "ipv4"))))
    outside = [address for address in mine if not address.startswith("127.")]
    if not outside:
        pytest.skip("this machine has no address but the loopback's")
    hosts = {"web1": {"ansible_host": "198.51.100.11"}, "here": {"egress_firewall_addresses": outside[:1]}}
    inventory = write_inventory(tmp_path / "inventory", {"all": {"hosts": hosts}}, {"all": NETWORKS})
    code, output = run_play(tmp_path, inventory, {"tasks": [COMPILE]})
    assert code != 0
    expected = 'egress_firewall_addresses on host here: "Ansible logs in from here" does not hold: here → web1'
    assert expected in " ".join(output.split())
