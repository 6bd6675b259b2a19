# SPDX-License-Identifier: GPL-3.0-or-later
"""Have systemd do something to a unit, and measure for how long what the policy does not grant can leave meanwhile.

Usage: gap.py VERB UNIT. A datagram a host's own rules drop is refused to who sends it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

# Nobody grants this.
FORBIDDEN = ("203.0.113.10", 6667)


def main() -> None:
    """Send without pause until systemctl has ended, and print the longest time between two refusals."""
    longest = sent = 0
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        subprocess.Popen(["systemctl", *sys.argv[1:]]) as systemctl,
    ):
        refused = time.monotonic()
        ending = None
        while ending is None or refused < ending:
            if ending is None and systemctl.poll() is not None:
                ending = time.monotonic()
            try:
                sender.sendto(b"gap", FORBIDDEN)
                sent += 1
            except PermissionError:
                longest, refused = max(longest, time.monotonic() - refused), time.monotonic()
    print(f"{' '.join(sys.argv[1:])}: {sent} datagrams left, within {longest * 1000:.0f} ms")


if __name__ == "__main__":
    main()
