# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running programs in network namespaces that are gone afterwards."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.palisade.egress.plugins.module_utils._run import ENVIRONMENT, Result

_numbers = itertools.count()
# A machine's own, for all that is written; /run tells that there is a systemd.
OWN_FILES = ("/run", "/var/lib", "/usr/local/sbin", "/etc/systemd/system", "/etc/sysctl.d")


@dataclass(frozen=True)
class Namespace:
    """A network namespace; ``wrapper`` stands before each command that runs in it."""

    name: str
    wrapper: tuple[str, ...] = ()

    def run(self, command: list[str], data: str = "") -> Result:
        """Be a ``Run``: give what the command left, whatever its status."""
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.name}", *self.wrapper, *command],
            input=data, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def must(self, command: str, data: str = "") -> str:
        """Return the output of a command, its words apart by blanks, that has to succeed."""
        result = self.run(command.split(), data)
        assert result.code == 0, f"{command}: {result.error}"
        return result.output

    def nft(self, commands: str) -> None:
        """Have nft run these commands."""
        self.must("nft -f -", commands)

    def everything(self) -> str:
        """Return all that nf_tables holds, without counts and timeouts that go on by themselves."""
        return self.must("nft -s list ruleset")


# Where the module keeps what is about one network namespace.
STATE = Path("/run/palisade-egress")


@contextmanager
def namespace(*wrapper: str) -> Iterator[Namespace]:
    """Make a network namespace and take it away again."""
    name = f"palisade-test-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    inode = Path(f"/run/netns/{name}").stat().st_ino
    try:
        yield Namespace(name, wrapper)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
        for path in STATE.glob(f"*-{inode}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if STATE.is_dir() and not any(STATE.iterdir()):
            STATE.rmdir()


@contextmanager
def machine() -> Iterator[Namespace]:
    """Make a network namespace whose processes see files of their own where the collection keeps any."""
    mounts = " && ".join(f"mount -t tmpfs -o mode=755 tmpfs {path}" for path in OWN_FILES)
    prepare = f"{mounts} && mkdir -p /run/systemd/system && echo ready && exec sleep infinity"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", prepare]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "ready\n"
            # systemctl then does to files what it is asked to, and leaves the machine's systemd alone.
            inside = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "env", "SYSTEMD_OFFLINE=1"]
            with namespace(*inside) as fresh:
                yield fresh
        finally:
            holder.kill()
