#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The whole product in a minute: starts the lab, measures it open, fences it in, and measures again.
set -euo pipefail

lab=$(cd "$(dirname "$0")" && pwd)
state=$(cd "$lab/../.." && pwd)/.cache/lab
export ANSIBLE_CONFIG=$lab/ansible.cfg
[[ ! -t 1 ]] || export ANSIBLE_FORCE_COLOR=1

step() {
    printf '\n=== %3d s  %s\n' "$SECONDS" "$*"
}

measure() {
    ansible-playbook "$lab/measure.yml" > "$state/measure.log" 2>&1 || { cat "$state/measure.log"; return 1; }
    python3 "$lab/matrix.py" "$@"
}

# The log holds what the terminal shows, less its colours.
apply() {
    rm -f "$state/$1.log"
    ANSIBLE_LOG_PATH=$state/$1.log ansible-playbook --inventory "$lab/inventory" palisade.egress.site
}

unchanged() {
    if ! grep -q 'changed=0 ' "$state/$1.log" || grep -E 'changed=[1-9]' "$state/$1.log"; then
        echo 'demo: the second run changed something' >&2
        return 1
    fi
}

step 'Starting the lab: six hosts, three networks, no way out'
"$lab/lab.sh" up

step 'Measuring without a fence: every host must reach every other, or "blocked" would mean nothing'
measure --open

step 'Applying the policy: ansible-playbook -i molecule/lab/inventory palisade.egress.site'
apply first

step 'Applying it again: nothing may change'
apply second
unchanged second

step 'Measuring with the fence, from every host, held against molecule/lab/expected.yml'
echo
measure

step 'Taking the fences of all hosts down but the router, as an intruder with root would'
echo
for host in mail1 web1 db1 client1; do
    podman exec "palisade-$host" palisade-egress off
done

step 'Measuring again: what crosses the router is stopped there, and it never sees what stays on one segment'
echo
measure --bypassed
for host in mail1 web1 db1 client1; do
    podman exec "palisade-$host" palisade-egress on
done

step 'Done. The lab stays up to look around; make clean removes it. For example:'
echo '  podman exec palisade-web1 nft list table inet palisade_egress'
