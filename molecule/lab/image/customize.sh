#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Called by mmdebstrap with the root of the image: adds the lab's own files, user and services.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$1

# Neither owner nor umask of the checkout may show: sshd and sudo distrust files that others can write.
tar -C "$here/rootfs" --owner=0 --group=0 --mode=u=rwX,go=rX -c . | tar -C "$root" --no-overwrite-dir -x

chroot "$root" useradd --create-home --shell /bin/bash ops
chroot "$root" systemctl --quiet enable lab-network.service lab-listener.service lab-dns.service
# Run where a scenario is about them.
chroot "$root" systemctl --quiet disable rsyslog.service ulogd2.service
# Whatever would wake up by itself and send packets, or sit on a console that is not there.
chroot "$root" systemctl --quiet mask \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty.target
