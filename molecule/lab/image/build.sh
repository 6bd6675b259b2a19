#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes the image of the lab's hosts from Debian packages; no image registry takes part.
# Usage: build.sh IMAGE TARBALL     (the tarball is scratch space)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
image=$1
tarball=$2

packages=(
    systemd systemd-sysv dbus procps             # a host with services
    openssh-server sudo python3                  # as Ansible wants it
    nftables iptables ipset conntrack            # what is tested
    dnsmasq-base                                 # what hosts cannot do without
    rsyslog ulogd2 ulogd2-json                   # what becomes of what is logged
    iproute2 iputils-ping tcpdump netcat-openbsd # what a person looks with
)

mmdebstrap --quiet --variant=minbase \
    --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="'$here/customize.sh' \"\$1\"" \
    bookworm "$tarball"
podman import --quiet "$tarball" "$image"
rm -f "$tarball"
