# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter as users meet it: its examples run, its errors are one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from unit.plugin_utils.playbooks import LAB, ROOT, run_play
from unit.plugin_utils.sites import GROUPS, site

from ansible_collections.palisade.egress.plugins.filter.egress_policy import egress_policy

DOCUMENTED = yaml.safe_load((ROOT / "plugins" / "filter" / "egress_policy.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", yaml.safe_load(DOCUMENTED["EXAMPLES"]), ids=lambda example: example["name"])
def test_examples_run(example: dict[str, object], tmp_path: Path) -> None:
    code, output = run_play(tmp_path, LAB, {"tasks": [{**example, "run_once": True}]})
    assert code == 0, output


def test_documented_keys_are_those_that_it_returns() -> None:
    policy = egress_policy(site(), GROUPS)["web1"]
    described = " ".join(DOCUMENTED["RETURN"]["_value"]["description"])
    assert [key for key in policy if f"C({key})" not in described] == []


@pytest.mark.parametrize(
    ("hostvars", "groups", "message"),
    [
        ("x", GROUPS, "hostvars: text stands where hostvars belongs."),
        (site(), [], "groups: a list stands where the groups belong."),
        (site(), {"web": "web1"}, "groups.web: not a list of hosts."),
        (site(), {"web": ["web9"]}, "groups.web: host 'web9' is not in hostvars."),
        ({"web1": []}, {}, "host web1: its variables are a list."),
    ],
)
def test_errors_are_filter_errors(hostvars: object, groups: object, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        egress_policy(hostvars, groups)
    assert str(caught.value).startswith(message)
