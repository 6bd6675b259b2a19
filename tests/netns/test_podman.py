# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Podman on a host with a fence: its containers keep their network, and leave as their grants say.

Its state is its own, and its networks are in a namespace, so that nothing of it is the machine's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from netns.namespace import Namespace
from netns.test_confirm import wait_until
from netns.test_containers import FAMILIES, INSIDE, INSIDE6, Engine, granted, reaches, serve, tcp
from netns.test_flows import Link, link

__all__ = ["link"]

# As in the lab: crun refuses to start on machines with hybrid cgroups. Locks are in files, as others are at work here.
SETTINGS = """
[containers]
base_hosts_file = "none"
[engine]
runtime = "runc"
lock_type = "file"
[network]
network_backend = "netavark"
"""
NETWORK = "--ipv6 --subnet 203.0.113.0/24 --subnet 2001:db8:a::/64 --disable-dns"
LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"


@dataclass(frozen=True)
class Podman:
    """Podman, with what it keeps in a directory; what runs in its containers are the machine's own programs."""

    where: Namespace
    directory: Path

    def __call__(self, command: str) -> str:
        kept = {"root": "root", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "networks"}
        options = [f"--{option}={self.directory / name}" for option, name in kept.items()]
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.where.name}", "podman", *options, *command.split()],
            env={**os.environ, "CONTAINERS_CONF": str(self.directory / "containers.conf")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"podman {command}: {done.stderr}"
        return done.stdout.strip()

    def start(self, name: str, options: str = "") -> Namespace:
        """Start a container that does nothing, and return its network namespace."""
        rootfs = self.directory / name
        for directory in ("usr", "etc", "proc", "sys", "dev", "tmp", "run"):
            (rootfs / directory).mkdir(parents=True)
        for linked in ("bin", "lib", "lib64"):
            (rootfs / linked).symlink_to(f"usr/{linked}")
        self(f"run -d --name {name} --network inside {options} {LIMITS} -v /usr:/usr:ro --rootfs {rootfs} sleep 600")
        inside = Namespace(Path(self(f"inspect --format {{{{.NetworkSettings.SandboxKey}}}} {name}")).name)
        wait_until(lambda: "tentative" not in inside.must("ip -6 address"))
        return inside


@pytest.fixture
def podman(link: Link) -> Iterator[Podman]:
    """Return Podman on the host ``here``, which has a network for containers."""
    # Its paths must be short.
    with TemporaryDirectory(prefix="podman-") as directory:
        (Path(directory) / "containers.conf").write_text(SETTINGS, encoding="utf-8")
        run = Podman(link.here, Path(directory))
        run(f"network create {NETWORK} inside")
        try:
            yield run
        finally:
            run("rm --all --force --time 0")


@FAMILIES
def test_containers_of_podman(here: str, there: str, inside: str, link: Link, podman: Podman) -> None:
    own, outside = link.here, link.there
    early = podman.start("early", f"-p 8080:80 --ip {INSIDE} --ip6 {INSIDE6}")
    (bridge,) = podman("network inspect --format {{.NetworkInterface}} inside").split()
    engine = Engine(link, {"podman0": early})
    theirs = without_counts(own)
    assert "NETAVARK" in theirs
    with ExitStack() as stack:
        serve(stack, engine, outside, there, 7000, 7001)
        serve(stack, engine, early, inside, 80)
        assert reaches(early, there, 7000)
        variables = {"allow__here": [granted(7001, containers=True)], "container_bridges": [bridge]}
        assert engine.apply(**variables)["changed"]
        assert without_counts(own) == theirs
        assert [port for port in (7000, 7001) if reaches(early, there, port)] == [7001]
        assert [port for port in (7000, 7001) if reaches(own, there, port)] == []
        assert reaches(outside, here, 8080)
        engine.apply(**variables, input="closed")
        assert not reaches(outside, here, 8080)
        published = [{"service": tcp(80), "from": "peer", "containers": True}]
        engine.apply(**variables, input="closed", accept__here=published)
        assert reaches(outside, here, 8080)
        # One that is started behind the fence, and finds the other one.
        late = podman.start("late")
        assert [port for port in (7000, 7001) if reaches(late, there, port)] == [7001]
        assert reaches(late, inside, 80)
        assert engine.apply(**variables, input="closed", accept__here=published)["changed"] is False


def without_counts(where: Namespace) -> str:
    """Return the rules of others."""
    tables = [line for line in where.must("nft list tables").splitlines() if "palisade" not in line]
    return "".join(where.must(f"nft -s list {table}") for table in tables)
