#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Changes rules of a lab host by Ansible, and kills Ansible once they are changed and not yet confirmed.
# Usage: die.sh HOST
set -euo pipefail

host=$1
arguments='{"rules": [{"name": "new", "chain": "output", "action": "drop", "destination": ["192.0.2.0/24"]}],
            "confirm": {"timeout": 8}}'

in_host() {
    podman exec "palisade-$host" "$@"
}

# Ansible's workers have sessions of their own.
kill_all_of() {
    local child
    kill -STOP "$1"
    for child in $(pgrep --parent "$1"); do
        kill_all_of "$child"
    done
    kill -9 "$1"
}

# No new login works, so that the change has to wait; the connection that is open already goes on.
in_host systemctl stop ssh
ansible "$host" --become --module-name palisade.egress.egress_rule --args "$arguments" > /dev/null 2>&1 &
ansible=$!
trap 'in_host systemctl start ssh' EXIT
changed=
for _ in {1..100}; do
    if in_host sh -c 'ls -d /run/palisade-egress/pending-*-????????????' > /dev/null 2>&1; then
        changed=$(in_host nft list table inet palisade_egress | grep '"new"')
        break
    fi
    sleep 0.1
done
kill_all_of "$ansible"
[[ -n $changed ]] || { echo "die: nothing was changed on $host" >&2; exit 1; }
