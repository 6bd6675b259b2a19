#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Writes down what of a host could have to do with a firewall: rules, settings, units, files. Usage: snapshot.sh FILE
set -eu
{
    # Counts go on by themselves.
    nft --stateless list ruleset | sed 's/counter packets .* bytes [0-9]*/counter/'
    iptables-save | grep -v '^[#:]'
    ip6tables-save | grep -v '^[#:]'
    sysctl --all --pattern 'net\.(ipv4|ipv6|netfilter|core)' 2>/dev/null |
        grep -v -e nf_conntrack_count -e random -e stable_secret -e nr_
    systemctl list-unit-files --no-legend
    systemctl list-timers --all --no-legend | awk '{print $NF}' | sort
    find /etc /usr /var/lib /run -xdev \( -path /run/systemd -o -path /run/user -o -path /run/sudo -o -path /run/log \
        -o -path /run/utmp -o -path /var/lib/systemd -o -path /run/mount -o -path /run/screen \) -prune \
        -o -printf '%p %m %u %l\n' | sort
    find /etc /usr/local /var/lib/dpkg -xdev -type f -exec sha256sum {} + | sort
} >"$1"
