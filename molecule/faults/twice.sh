#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Changes the rules of a lab host by two runs of Ansible at once, and sees that it has those of one of them, whole: of
# one that succeeded, while the other one was refused or came first. Usage: twice.sh HOST
set -euo pipefail

host=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

change() {
    local rules
    rules=$(for n in {1..50}; do
        echo "{\"name\": \"$1 $n\", \"chain\": \"output\", \"action\": \"drop\", \"destination\": [\"192.0.2.$n\"]},"
    done)
    ansible "$host" --become --module-name palisade.egress.egress_rule --args "{\"rules\": [${rules%,}]}" \
        > "$scratch/$1" 2>&1
}

change one & first=$!
change two & second=$!
codes=0
wait "$first" || codes=$((codes + 1))
wait "$second" || codes=$((codes + 2))

holds=$(podman exec "palisade-$host" nft list table inet palisade_egress | grep -o 'comment "[a-z]* ' | sort | uniq -c)
echo "the runs that failed: $codes; the host holds: $holds"
case $codes in
    0) grep -qE '^ +50 comment "(one|two) $' <<< "$holds" ;;
    1) grep -qE '^ +50 comment "two $' <<< "$holds" && grep -q -e 'another run' -e 'a change waits' "$scratch/one" ;;
    2) grep -qE '^ +50 comment "one $' <<< "$holds" && grep -q -e 'another run' -e 'a change waits' "$scratch/two" ;;
    *) cat "$scratch"/*; exit 1 ;;
esac
