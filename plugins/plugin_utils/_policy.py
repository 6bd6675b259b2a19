# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an inventory declares, and the policies that are compiled from it. Private to this collection.

Frozen data and nothing else. The first half is the *fleet*, the digest of a whole inventory; the second half is what
one host may do, with the origin of every part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.palisade.egress.plugins.module_utils._codec import DEFAULT_REJECT
from ansible_collections.palisade.egress.plugins.module_utils._model import ALL_PORTS, Addresses
from ansible_collections.palisade.egress.plugins.module_utils._ranges import Ranges
from ansible_collections.palisade.egress.plugins.plugin_utils._reading import Place

NOWHERE = Addresses()


@dataclass(frozen=True)
class Part:
    """One protocol of a service.

    ``protocol`` is a name or number of the data contract, or ``any``. ``selector`` holds destination ports, or the
    numbers of ICMP types; ``ALL_PORTS`` means any, also for protocols that have neither.
    """

    protocol: str
    family: str = "any"
    selector: Ranges = ALL_PORTS
    source_ports: Ranges = ALL_PORTS


@dataclass(frozen=True)
class Service:
    """A named set of protocols and ports. ``text`` is how one is written that has no name of its own."""

    name: str
    parts: tuple[Part, ...]
    needs_interface: bool = False
    text: str = ""


@dataclass(frozen=True)
class Term:
    """One element of a network expression: ``kind`` is any, group, host, network or addresses."""

    text: str
    kind: str
    name: str = ""
    addresses: Addresses = NOWHERE


@dataclass(frozen=True)
class Definition:
    """What a network's name stands for."""

    place: Place
    include: tuple[Term, ...]
    without: tuple[Term, ...] = ()


@dataclass(frozen=True)
class RateLimit:
    """A bound on new flows, as the data contract writes it."""

    rate: str
    burst: int | None = None
    per: str = "none"


@dataclass(frozen=True)
class Grant:
    """Permission to reach a service on a network. ``label`` is the profile or suffix that declares it.

    One to ``containers`` is for those of the host, and not for the host itself.
    Of a ``default`` (the profile base) any forbid may leave nothing. A ``shipped`` grant may name a network that the
    inventory does not define.
    """

    place: Place
    label: str
    service: Service
    to: tuple[Term, ...]
    interface: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    containers: bool = False
    limit: RateLimit | None = None
    expires: str | None = None
    reason: str = ""
    default: bool = False
    shipped: bool = False


@dataclass(frozen=True)
class Accept:
    """Permission to reach a service on the host, or in its containers, from a network, where its input is closed."""

    place: Place
    label: str
    service: Service
    source: tuple[Term, ...]
    interface: tuple[str, ...] = ()
    containers: bool = False
    limit: RateLimit | None = None
    expires: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Forbid:
    """An invariant that beats every grant. Where ``verdict`` or ``reject_with`` is None, the host's setting holds."""

    place: Place
    label: str
    name: str
    service: Service
    to: tuple[Term, ...]
    without: tuple[Term, ...] = ()
    verdict: str | None = None
    reject_with: str | None = None
    shipped: bool = False


@dataclass(frozen=True)
class Waiver:
    """Exempts a part of the forbid with this origin until ``expires``, for a reason that ``owner`` answers for."""

    place: Place
    label: str
    forbid: str
    service: Service
    to: tuple[Term, ...]
    reason: str
    owner: str
    expires: str


@dataclass(frozen=True)
class Probe:
    """What a host tries once its rules have changed. A ``shipped`` one stands and falls with the grant of the same."""

    place: Place
    label: str
    name: str
    service: Service
    to: tuple[Term, ...]
    expect: str = "reachable"
    timeout: float | None = None
    query: str | None = None
    shipped: bool = False


@dataclass(frozen=True)
class Profile:
    """A server's role. ``replaced`` names the keys in which the inventory replaces what ships."""

    name: str
    groups: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()
    forbids: tuple[Forbid, ...] = ()
    accepts: tuple[Accept, ...] = ()
    probes: tuple[Probe, ...] = ()
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlay:
    """What the suffixed variables add for the hosts of one group, or for one host."""

    suffix: str
    grants: tuple[Grant, ...] = ()
    forbids: tuple[Forbid, ...] = ()
    networks: Mapping[str, Definition] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    accepts: tuple[Accept, ...] = ()
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True)
class Icmp:
    """The names of the ICMP types, of either family, that may begin something outbound, and inbound where closed."""

    outbound: tuple[str, ...] = ("echo-request",)
    inbound: tuple[str, ...] = ("echo-request",)


@dataclass(frozen=True)
class Logging:
    """What a host logs of what it denies: in which base chains, how many lines at most, and to whom.

    ``group`` is an NFLOG group (None: the kernel's log); ``protocols`` tells whether each has a prefix of its own.
    """

    rate: str = "10/second"
    group: int | None = None
    chains: tuple[str, ...] = ("output", "forward")
    protocols: bool = False


@dataclass(frozen=True)
class Forwarding:
    """What the inventory says about forwarding packets of others, by family; None leaves it to the profiles."""

    ipv4: bool | None = None
    ipv6: bool | None = None

    def of(self, family: str) -> bool | None:
        """Return what it says of one family (``ipv4`` or ``ipv6``)."""
        return self.ipv4 if family == "ipv4" else self.ipv6


@dataclass(frozen=True)
class Settings:
    """The settings of one host."""

    managed: bool = True
    state: str = "present"
    mode: str = "enforce"
    default_verdict: str = "drop"
    reject_with: str = DEFAULT_REJECT
    input: str = "guard"
    backend: str = "auto"
    live_flows: str = "end"
    confirm_timeout: int = 30
    persist: bool = True
    generations: int = 5
    boot_failure: str = "closed"
    guard: bool = True
    icmp: Icmp = Icmp()
    log: Logging | None = Logging()
    forwarding: Forwarding = Forwarding()
    container_bridges: tuple[str, ...] = ("podman0", "docker0")

    @property
    def is_audit(self) -> bool:
        """Whether what the policy denies is logged and passes."""
        return self.mode == "audit"


@dataclass(frozen=True)
class Inside:
    """An interface of a router behind which hosts are, and the prefixes that their addresses are in.

    ``reverse_path`` is strict, loose or off.
    """

    interface: str
    prefixes: Addresses
    reverse_path: str = "strict"


@dataclass(frozen=True)
class Outside:
    """An interface of a router behind which the rest of the world is.

    ``special_use`` are networks that are met there though they are not the internet's.
    """

    interface: str
    reverse_path: str = "off"
    special_use: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Router:
    """Between what a host forwards packets, and for whom; ``behind`` is None for all who have an address inside."""

    place: Place
    inside: tuple[Inside, ...]
    outside: tuple[Outside, ...] = ()
    behind: tuple[Term, ...] | None = None
    inbound: str = "guard"


@dataclass(frozen=True)
class Host:
    """One host of the inventory. ``addresses`` is None where it has none that can be used."""

    name: str
    addresses: Addresses | None
    settings: Settings
    profiles: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    router: Router | None = None

    def addresses_of(self, family: str) -> Ranges:
        """Return the addresses of one family; none where nobody knows them."""
        return self.addresses.of(family) if self.addresses is not None else ()


@dataclass(frozen=True)
class Fleet:
    """The digest of the whole inventory. ``now`` is when it was made, as the data contract writes times."""

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    services: Mapping[str, Service]
    networks: Mapping[str, Definition]
    profiles: Mapping[str, Profile]
    overlays: Mapping[str, Overlay]
    now: str


@dataclass(frozen=True)
class Reach:
    """One part of a service on resolved addresses, those of the other end: what one rule matches."""

    part: Part
    addresses: Addresses


@dataclass(frozen=True)
class Granted:
    """A grant as one host has it.

    ``state`` is ``in use``, ``cut`` (forbids take some of it), ``withheld`` (they take all), ``expired`` or ``not in
    use`` (its network is not defined); ``by`` names those forbids. ``reaches`` are the parts of which something is
    left. They are not narrowed to it: forbids come first in the kernel too, and a rule that reads as it was written is
    worth more.
    """

    origin: str
    grant: Grant
    state: str
    reaches: tuple[Reach, ...] = ()
    by: tuple[str, ...] = ()

    @property
    def is_used(self) -> bool:
        """Whether rules come of it."""
        return self.state in ("in use", "cut")


@dataclass(frozen=True)
class Accepted:
    """An accept as one host has it. ``state`` is ``in use`` or ``expired``; the first only where input is closed."""

    origin: str
    accept: Accept
    state: str
    reaches: tuple[Reach, ...] = ()

    @property
    def is_used(self) -> bool:
        """Whether rules come of it."""
        return self.state == "in use"


@dataclass(frozen=True)
class Waived:
    """A waiver as one host has it: ``reaches`` are what it exempts of its forbid, and nothing else."""

    origin: str
    waiver: Waiver
    reaches: tuple[Reach, ...]


@dataclass(frozen=True)
class Forbidden:
    """A forbid as one host has it, with the waivers of it that have not expired."""

    origin: str
    forbid: Forbid
    reaches: tuple[Reach, ...]
    waived: tuple[Waived, ...] = ()


@dataclass(frozen=True)
class Way:
    """How something is tried: ``protocol`` is tcp, udp or icmp, ``payload`` what a datagram says."""

    protocol: str
    port: int | None = None
    payload: str | None = None


@dataclass(frozen=True)
class Target:
    """One address, and how it is tried."""

    family: str
    address: int
    way: Way


@dataclass(frozen=True)
class Probed:
    """A probe as one host has it. Of several targets that ought to be reachable, one has to be."""

    origin: str
    probe: Probe
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Composition:
    """What hosts have in common that have the same profiles and suffixed variables.

    ``containers`` are the grants, and ``container_accepts`` the accepts, for what runs in the hosts' containers.
    """

    profiles: tuple[str, ...]
    grants: tuple[Granted, ...] = ()
    forbids: tuple[Forbidden, ...] = ()
    accepts: tuple[Accepted, ...] = ()
    probes: tuple[Probed, ...] = ()
    notices: tuple[str, ...] = ()
    containers: tuple[Granted, ...] = ()
    container_accepts: tuple[Accepted, ...] = ()

    @property
    def is_router(self) -> bool:
        """Whether packets of others may pass this host."""
        return "router" in self.profiles

    @property
    def is_container_host(self) -> bool:
        """Whether packets of containers may pass this host."""
        return "container_host" in self.profiles


@dataclass(frozen=True)
class Behind:
    """Hosts behind a router that it treats alike, their addresses there, and their policy as far as it can see it."""

    hosts: tuple[str, ...]
    addresses: Addresses
    composition: Composition
    is_audit: bool = False


@dataclass(frozen=True)
class Border:
    """What a router lets pass for others. ``special_use`` are, by outside interface, addresses not to be met there."""

    router: Router
    behind: tuple[Behind, ...]
    special_use: tuple[Addresses, ...] = ()


@dataclass(frozen=True)
class Policy:
    """All of it for one host. ``probes`` are those of the composition, without the host's own addresses."""

    host: str
    settings: Settings
    composition: Composition
    probes: tuple[Probed, ...] = ()
    border: Border | None = None
