# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes the arguments of egress_rule and does nothing: what Ansible itself needs to hand them over."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    rules, options = {"type": "list", "elements": "raw"}, {"type": "dict", "default": {}}
    module = AnsibleModule({"rules": rules, "chains": options, "confirm": options})
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
