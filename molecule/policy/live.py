# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what becomes of a connection, and of a new one, when the grant behind them ends.

Takes the time of the end (seconds since 1970), a port, and addresses. A byte that was sent is acknowledged, or waits.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import sys
import termios
import time


def is_acknowledged(connection: socket.socket) -> bool:
    """Send a byte and tell whether the other end has it within two seconds."""
    connection.send(b"x")
    deadline = time.time() + 2
    while time.time() < deadline:
        (waiting,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))
        if not waiting:
            return True
        time.sleep(0.05)
    return False


def connects(address: str, port: int) -> bool:
    """Tell whether a new connection works."""
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Look once before the end and once after it."""
    end, port, addresses = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    live = {address: socket.create_connection((address, port), timeout=2) for address in addresses}
    found = {"before": time.time() < end - 5}
    found["live before"] = [is_acknowledged(connection) for connection in live.values()]
    found["new before"] = [connects(address, port) for address in addresses]
    found["all before"] = time.time() < end
    time.sleep(max(0, end - time.time()) + 1)
    found["live after"] = [is_acknowledged(connection) for connection in live.values()]
    found["new after"] = [connects(address, port) for address in addresses]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
