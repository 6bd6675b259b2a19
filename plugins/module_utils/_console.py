# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program ``palisade-egress``, which is on each host. Private to this collection.

systemd has it load the saved rules, and a timer has it mend what somebody has changed. The rest is for whoever stands
before the machine at night, without Ansible. It needs nothing but a shell, nft, and what every system has.
"""

from __future__ import annotations

from pathlib import Path

from ansible_collections.palisade.egress.plugins.module_utils._errors import KernelError
from ansible_collections.palisade.egress.plugins.module_utils._nft_script import TABLE
from ansible_collections.palisade.egress.plugins.module_utils._persistence import DIRECTORY
from ansible_collections.palisade.egress.plugins.module_utils._run import ENVIRONMENT
from ansible_collections.palisade.egress.plugins.module_utils._watchdog import GRACE, STATE, network, uptime

PROGRAM = Path("/usr/local/sbin/palisade-egress")
# After all others: what is last counts. Debian has /etc/sysctl.conf there as 99-sysctl.conf.
SYSCTLS = Path("/etc/sysctl.d/zz-palisade-egress.conf")
# How often the timer looks, in seconds.
INTERVAL = 30

_TEXT = r"""#!/bin/sh
# Written by the Ansible module palisade.egress.egress_rule, which restores it.
# The egress firewall of palisade.egress, without Ansible. `palisade-egress help` tells what it can do.
export __ENVIRONMENT__ PATH=/usr/sbin:/usr/bin:/sbin:/bin
saved=__SAVED__
state=__STATE__
sysctls=__SYSCTLS__
network=$(stat -L -c %i /proc/self/ns/net)
lock=$state/lock-$network
loaded=$state/loaded-$network
off=$state/off-$network

usage() {
    cat <<'END'
palisade-egress status           tell what the kernel holds, and what the next boot loads
palisade-egress rollback [N]     take back a change that waits to be confirmed, or else
                                 load the rules of generation N, or of the one before
palisade-egress off [--for 90m]  let everything out, for an hour or so long (s, m, h; at most a day)
palisade-egress on               load the saved rules
All of it is logged: journalctl -t palisade-egress. While it is off, runs of Ansible fail and say so; otherwise the
next one makes the rules those of the inventory. Status ends with 0 if all is well, 1 if not, 3 while it is off.
END
}

fail() {
    echo "palisade-egress: $1" >&2
    exit "${2:-1}"
}

# Messages go to the log and, if somebody is there, to them.
tell() {
    logger -p "daemon.$1" -t palisade-egress "$2" 2>/dev/null
    [ ! -t 2 ] || echo "$2" >&2
}

who() {
    echo "${SUDO_USER:-$(id -un)}"
}

uptime() {
    cut -d . -f 1 /proc/uptime
}

have_state() {
    [ -d "$state" ] || mkdir -m 700 "$state"
}

# Keeps runs of Ansible out meanwhile; $1 is for how many seconds to wait for one.
only_one() {
    have_state && touch "$lock" && exec 9>>"$lock" && flock -w "$1" 9 || return
    # Whom a watchdog has to end, should we hang.
    echo $$ >"$lock" || :
}

# Prints what the kernel holds, without what packets change by themselves: counts, and the memory of limits.
listing() {
    nft -s list table __TABLE__ 2>/dev/null | awk '
        /^\tset / { memory = 0 }
        /^\t\tflags .*dynamic/ { memory = 1 }
        memory && /^\t\telements = / { inside = 1 }
        !inside
        inside && /}$/ { inside = 0 }'
}

digest() {
    listing | sha256sum
}

remember() {
    have_state && digest >"$loaded.new" && mv "$loaded.new" "$loaded" && return
    rm -f "$loaded.new"
    return 1
}

is_changed() {
    [ "$(digest)" != "$(cat "$loaded" 2>/dev/null)" ]
}

# Prints, by value and file, the settings by which packets of others are forwarded and should not be, or the reverse.
forwarding() {
    sed -n 's/^net\.\(ipv[46]\)\.conf\.all\.forwarding = \([01]\)$/\1 \2/p' "$sysctls" 2>/dev/null |
        while read -r family value; do
            conf=/proc/sys/net/$family/conf
            case $family$value in
                ipv40) set -- "$conf"/*/forwarding ;;
                ipv60) set -- "$conf/all/forwarding" "$conf"/*/force_forwarding ;;
                *) set -- "$conf/all/forwarding" ;;
            esac
            for file in "$@"; do
                [ ! -e "$file" ] || [ "$(cat "$file")" = "$value" ] || echo "$value $file"
            done
        done
}

# To turn it off has IPv4 take redirects, unless it is told not to.
mend_forwarding() {
    redirects=/proc/sys/net/ipv4/conf/all/accept_redirects
    forwarding | while read -r value file; do
        before=$(cat "$redirects")
        echo "$value" >"$file"
        [ "$value" = 1 ] || [ "$(cat "$redirects")" = "$before" ] || echo "$before" >"$redirects"
    done
}

# The directories of changes that wait to be confirmed.
pending() {
    for change in "$state/pending-$network"-*; do
        case $change in
            *.*) ;;
            *) [ ! -d "$change" ] || echo "$change" ;;
        esac
    done
}

# Waits and then takes a change back, as the watchdog would.
take_back() {
    for change in $(pending); do
        sh "$change/script" "$change" 3 "" || return
    done
}

# Loads the saved rules, unless somebody has turned them off for a while.
load() {
    only_one 5
    [ ! -e "$off" ] || exit 0
    load_saved
}

load_saved() {
    if nft -f "$saved/current"; then
        remember
        return 0
    fi
    tell err "the saved rules do not load: the host is left __FAILURE__"
    fallback
    return 1
}

# The same where rules come back that were away. Connection tracking has not seen begin what began meanwhile: TCP that
# is under way passes for a moment, and is known then. The kernel ends that, should we not.
load_again() {
    if { cat "$saved/current" && midstream; } | nft -f -; then
        sleep 3
    fi
    load_saved
}

midstream() {
    end=$(date -d "@$(($(date +%s) + 10))" '+%Y-%m-%d %H:%M:%S')
    for chain in input forward output; do
        if grep -q "^add chain __TABLE__ $chain " "$saved/current"; then
            echo "insert rule __TABLE__ $chain meta time < \"$end\" tcp flags & (syn | ack) == ack ct state new accept"
        fi
    done
}

fallback() {
    __FALLBACK__
}

# Called by a timer: mends what has been changed, and ends what was to last for a while.
check() {
    only_one 0 || exit 0
    # What a run of Ansible has changed and not confirmed yet differs from what is saved; there is a watchdog for that,
    # unless somebody has killed it.
    for change in $(pending); do
        [ "$(uptime)" -gt "$(($(cut -d . -f 1 "$change/deadline") + __GRACE__))" ] || exit 0
        tell warning 'nobody confirmed the new rules in time, and the watchdog is dead: taking them back'
        sh "$change/script" "$change" 3 ""
    done
    if [ -e "$off" ]; then
        [ "$(uptime)" -ge "$(cat "$off")" ] || exit 0
        rm -f "$off"
        tell warning "the time is over for which it was turned off: loading the saved rules"
        load_again
    elif is_changed; then
        tell warning "something has changed the rules: loading the saved ones"
        load_again
    fi
    if [ -n "$(forwarding)" ]; then
        tell warning "something has turned forwarding on or off: turning it back"
        mend_forwarding
    fi
}

status() {
    code=0
    if [ -e "$off" ]; then
        left=$(($(cat "$off") - $(uptime)))
        echo "off: everything may leave for another $((left > 0 ? (left + 59) / 60 : 0)) minutes"
        code=3
    elif ! nft list table __TABLE__ >/dev/null 2>&1; then
        echo "absent: the kernel holds no rules of palisade.egress"
        code=1
    elif [ -n "$(pending)" ]; then
        echo "pending: a change waits to be confirmed, or is taken back soon"
        code=1
    elif is_changed; then
        echo "changed: something has changed the rules; they are loaded again within __INTERVAL__ seconds"
        code=1
    elif [ -n "$(forwarding)" ]; then
        echo "changed: something has turned forwarding on or off; it is turned back within __INTERVAL__ seconds"
        code=1
    else
        rules=$(nft -s list table __TABLE__ | grep '^.counter ' | grep -vc palisade/default)
        echo "on: the rules are as they were loaded, $rules of them"
    fi
    current=$(readlink "$saved/current")
    for file in "$saved"/rules-*.nft; do
        [ -e "$file" ] || continue
        number=${file##*/rules-}
        number=$(echo "${number%.nft}" | sed 's/^0*//')
        mark=
        [ "${file##*/}" != "$current" ] || mark=', which the next boot loads'
        echo "generation $number: saved $(date -r "$file" '+%Y-%m-%d %H:%M:%S') UTC$mark"
    done
    return "$code"
}

turn_link() {
    ln -sf "$1" "$saved/next" && mv -T "$saved/next" "$saved/current" && sync "$saved"
}

rollback() {
    if [ -z "$1" ] && [ -n "$(pending)" ]; then
        take_back || fail 'the rules before the change do not load'
        echo 'took back the change that was waiting to be confirmed'
        return
    fi
    current=$(readlink "$saved/current")
    if [ -n "$1" ]; then
        file=$(printf 'rules-%08d.nft' "$1" 2>/dev/null)
    else
        file=
        for path in "$saved"/rules-*.nft; do
            [ "${path##*/}" != "$current" ] || break
            file=${path##*/}
        done
    fi
    if [ -z "$file" ] || [ ! -e "$saved/$file" ]; then
        fail 'there is no such generation: see palisade-egress status' 2
    fi
    nft -c -f "$saved/$file" || fail "$file does not load: nothing was changed"
    take_back
    turn_link "$file" || fail 'the disk refuses'
    rm -f "$off"
    load_saved || exit
    tell warning "$(who) went back to $file"
    echo "the rules are those of $file, until Ansible runs again"
}

# $1 is like 90m.
seconds_of() {
    number=${1%[smh]}
    case $number in
        '' | *[!0-9]* | ??????*) return 1 ;;
    esac
    case $1 in
        *h) number=$((number * 3600)) ;;
        *m) number=$((number * 60)) ;;
    esac
    [ "$number" -gt 0 ] && [ "$number" -le 86400 ] && echo "$number"
}

turn_off() {
    seconds=3600
    if [ $# -gt 0 ]; then
        seconds=
        [ "$1" != --for ] || seconds=$(seconds_of "$2")
        [ -n "$seconds" ] || fail 'say for how long like: off --for 90m' 2
    fi
    take_back
    echo "$(($(uptime) + seconds))" >"$off" || fail "no room in $state"
    nft -f - <<END || fail 'the kernel refuses'
add table __TABLE__
delete table __TABLE__
END
    tell warning "$(who) turned it off for $((seconds / 60)) minutes: everything may leave"
    echo "everything may leave for $((seconds / 60)) minutes, or until: palisade-egress on"
}

turn_on() {
    rm -f "$off"
    load_again || exit
    tell warning "$(who) turned it on"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
    help | -h | --help) usage; exit ;;
    load | check | remember | status | rollback | off | on) ;;
    *) usage >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || fail 'only root can' 1
case $command in
    load) load ;;
    check) check ;;
    remember) remember ;;
    status) status ;;
    *)
        only_one 10 || fail 'a run of Ansible changes the rules now: try again'
        case $command in
            rollback) rollback "$1" ;;
            off) turn_off "$@" ;;
            on) turn_on ;;
        esac
        ;;
esac
"""

# Nothing leaves but answers to those who come in; what is there already, if anything, is better than this.
_CLOSED = f"""nft list table {TABLE} >/dev/null 2>&1 && return
    nft -f - <<'END'
table {TABLE} {{
    chain output {{
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        ct state established accept
        icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }} accept
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
    }}
}}
END"""


def check_not_off(state: str) -> None:
    """Raise ``KernelError`` where somebody has turned the rules off for a while, unless they are to go anyway."""
    path = STATE / f"off-{network()}"
    if state == "absent" or not path.exists():
        return
    left = int(path.read_text(encoding="ascii")) - uptime()
    if left > 0:
        what = f"somebody has turned this host's rules off for another {left / 60:.0f} minutes, and nothing was changed"
        raise KernelError("palisade-egress off", what, "run `palisade-egress on` there, or wait")


def program_text(boot_failure: str) -> str:
    """Return the program; ``boot_failure`` (closed or open) says what a host is whose saved rules do not load."""
    text = _TEXT.replace("__FALLBACK__", _CLOSED if boot_failure == "closed" else ":")
    for mark, value in (
        ("__ENVIRONMENT__", " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())),
        ("__TABLE__", TABLE),
        ("__SAVED__", DIRECTORY),
        ("__SYSCTLS__", SYSCTLS),
        ("__STATE__", STATE),
        ("__FAILURE__", boot_failure),
        ("__INTERVAL__", INTERVAL),
        ("__GRACE__", GRACE),
    ):
        text = text.replace(mark, str(value))
    return text
