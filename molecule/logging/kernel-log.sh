#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs a command while the kernel logs packets of containers, too, as it does those of a machine of its own.
# Usage: kernel-log.sh COMMAND…
set -euo pipefail

before=$(sysctl --values net.netfilter.nf_log_all_netns)
trap 'sysctl --quiet --write "net.netfilter.nf_log_all_netns=$before"' EXIT
trap 'exit 130' INT TERM
sysctl --quiet --write net.netfilter.nf_log_all_netns=1
"$@"
