# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes of what this host can reach: all at once, by sockets alone. Private to this collection."""

from __future__ import annotations

import errno
from collections import deque
from contextlib import ExitStack
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from socket import (
    AF_INET6,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    SO_ERROR,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from time import monotonic
from typing import Any, Dict, List, Optional, Sequence, Set

from ansible_collections.palisade.egress.plugins.module_utils._errors import ProbeError
from ansible_collections.palisade.egress.plugins.module_utils._probe_codec import (
    ACCEPTED,
    BLOCKED_HERE,
    SENT,
    TIMED_OUT,
    UNREACHABLE,
    Probe,
    Result,
    decode_probes,
)
from ansible_collections.palisade.egress.plugins.module_utils._probe_errors import (
    Measurement,
    ask_for_errors,
    measured_by_call,
    measured_by_icmp,
    measured_later,
    next_icmp_error,
    tcp_state,
)
from ansible_collections.palisade.egress.plugins.module_utils._probe_payloads import exchange_of
from ansible_collections.palisade.egress.plugins.module_utils._values import quoted

RESEND_AFTER = 1.0  # seconds, as TCP does: one lost datagram shows nothing
_BUSY = (errno.EAGAIN, errno.ENOBUFS)


def probe(module: Any) -> Dict[str, Any]:
    """Run the probes of the module's parameters and return its result, or fail with it; raises ``ProbeError``."""
    results = run_probes(decode_probes(module.params["probes"]))
    told = {"changed": False, "results": [result.as_dict() for result in results]}
    failure = failure_of(results)
    if failure and module.params["strict"]:
        module.fail_json(msg=failure, **told)
    return told


def failure_of(results: Sequence[Result]) -> str:
    """Return one line that names each probe that failed, with what was measured; empty if none did.

    A probe of a group fails only with all others of its group that expect the same, ``reachable``.
    """
    satisfied = {result.probe.group for result in results if result.ok} - {None}
    failed = [str(result) for result in results if not result.ok and result.probe.group not in satisfied]
    return f"{len(failed)} of {len(results)} probes failed: {'; '.join(failed)}" if failed else ""


def run_probes(probes: Sequence[Probe]) -> List[Result]:
    """Return a result for each probe, in their order, within little more than the largest of their timeouts.

    Raises ``ProbeError``, before anything is sent, for a probe that this host has no means to send.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(DefaultSelector())
        attempts = [_attempt(item, stack) for item in probes]
        waiting = deque(attempt for attempt in attempts if attempt.measurement is None)
        pending: Set[_Attempt] = set()
        while waiting or pending:
            if waiting:
                attempt = waiting.popleft()
                attempt.begin()
                pending.add(attempt)
                selector.register(attempt.socket, attempt.events, attempt)
            # Between two starts what has come back is read, so that no buffer overflows.
            pause = 0.0 if waiting else min(attempt.next_time for attempt in pending) - monotonic()
            for key, _events in selector.select(max(pause, 0.0)):
                key.data.look()
            for attempt in [attempt for attempt in pending if attempt.is_over()]:
                pending.remove(attempt)
                selector.unregister(attempt.socket)
                attempt.socket.close()
        return [attempt.result() for attempt in attempts]


class _Attempt:
    """A probe under way. Its ``measurement`` is None until there is one."""

    events = EVENT_READ
    resends = True

    def __init__(self, asked: Probe, stack: ExitStack) -> None:
        self.probe = asked
        self.measurement: Optional[Measurement] = None
        self._begun = self._ended = self._resend_at = 0.0
        try:
            self.socket = stack.enter_context(self._open())
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            self._settle(measured_by_call(error.errno))
            return
        self.socket.setblocking(False)
        ask_for_errors(self.socket)
        if asked.source is not None:
            self.socket.bind((asked.source, 0))

    @property
    def next_time(self) -> float:
        """When to look again, even if nothing happens."""
        end = self._begun + self.probe.timeout
        return min(end, self._resend_at) if self.resends else end

    def begin(self) -> None:
        """Send the first packet."""
        self._begun = monotonic()
        self._resend_at = self._begun + RESEND_AFTER
        try:
            self.socket.connect((self.probe.host, self.probe.port or 0))
        except BlockingIOError:
            pass
        except OSError as error:
            self._settle(measured_by_call(error.errno or 0))
            return
        self._send()

    def look(self) -> None:
        """Take what has come."""
        raise NotImplementedError

    def is_over(self) -> bool:
        """Tell whether there is a measurement, with which time also ends; send again where it is time to."""
        now = monotonic()
        if self.measurement is None and now >= self._begun + self.probe.timeout:
            self.look()  # whatever kept us, an answer that has come counts
            if self.measurement is None:
                self._settle(self._silence())
        elif self.measurement is None and self.resends and now >= self._resend_at:
            self._resend_at = now + RESEND_AFTER
            self.look()
            self._send()
        return self.measurement is not None

    def result(self) -> Result:
        """Return the probe with its measurement."""
        measured, detail = self.measurement or (TIMED_OUT, "")
        return Result(self.probe, measured, detail, self._ended - self._begun)

    def _open(self) -> socket:
        raise NotImplementedError

    def _send(self) -> None:
        raise NotImplementedError

    def _silence(self) -> Measurement:
        raise NotImplementedError

    def _settle(self, measurement: Measurement) -> None:
        if self.measurement is None:
            self.measurement = measurement
            self._ended = monotonic() if self._begun else 0.0


class _Tcp(_Attempt):
    events = EVENT_WRITE
    resends = False

    def _open(self) -> socket:
        return socket(self.probe.family, SOCK_STREAM)

    def _send(self) -> None:
        self.look()

    def look(self) -> None:
        # In this order: what comes in between is then explained, if not now, by what is read next.
        state = tcp_state(self.socket)
        number = self.socket.getsockopt(SOL_SOCKET, SO_ERROR)
        error = next_icmp_error(self.socket)
        if error is not None:
            # Errors while the first packet is being sent do not end the connection: they come from this host.
            state = tcp_state(self.socket)
            at_once = state.is_opening or state.lost_here
            self._settle(measured_by_icmp(error, self.probe.host, at_once=at_once))
        elif number in (errno.ECONNRESET, errno.EPIPE):
            self._settle((ACCEPTED, "reset afterwards"))
        elif number:
            self._settle(measured_later(number, is_tcp=True))
        elif state.is_closed:
            self._settle((UNREACHABLE, "the connection was given up"))
        elif not state.is_opening:
            self._settle((ACCEPTED, ""))

    def _silence(self) -> Measurement:
        if tcp_state(self.socket).lost_here:
            return BLOCKED_HERE, "no packet left this host"
        return TIMED_OUT, ""


class _Datagram(_Attempt):
    def __init__(self, asked: Probe, stack: ExitStack) -> None:
        super().__init__(asked, stack)
        self.resends = not asked.is_silent
        self._exchange = exchange_of(asked)
        self._stray = False

    def _open(self) -> socket:
        family = self.probe.family
        if self.probe.protocol == "udp":
            return socket(family, SOCK_DGRAM)
        return socket(family, SOCK_RAW, IPPROTO_ICMPV6 if family == AF_INET6 else IPPROTO_ICMP)

    def _send(self) -> None:
        if self.measurement is not None:
            return
        try:
            self.socket.send(self._exchange.request)
        except OSError as sending:
            error = next_icmp_error(self.socket)
            if error is not None:
                at_once = sending.errno == errno.EPERM
                self._settle(measured_by_icmp(error, self.probe.host, at_once=at_once))
            elif sending.errno not in _BUSY:
                self._settle(measured_by_call(sending.errno or 0))

    def look(self) -> None:
        error = next_icmp_error(self.socket)
        if error is not None:
            self._settle(measured_by_icmp(error, self.probe.host))
        while self.measurement is None:
            try:
                answer = self.socket.recv(4096)
            except BlockingIOError:
                return
            except OSError as late:
                self._settle(measured_later(late.errno or 0, is_tcp=False))
                return
            if self._exchange.is_answer(answer):
                self._settle((ACCEPTED, ""))
            self._stray = True

    def _silence(self) -> Measurement:
        if self.probe.is_silent:
            return SENT, "nothing came back"
        strange = self._stray and self.probe.protocol == "udp"
        return TIMED_OUT, "what came back is no answer" if strange else ""


def _attempt(asked: Probe, stack: ExitStack) -> _Attempt:
    """Return the probe with its socket ready."""
    try:
        return (_Tcp if asked.protocol == "tcp" else _Datagram)(asked, stack)
    except OSError as error:
        where = f"probe {quoted(asked.name)}"
        if error.errno == errno.EADDRNOTAVAIL:
            mend = "give an address that it has, or leave the source out"
            raise ProbeError(f"{where}.source", f"{asked.source} is no address of this host", mend) from None
        if asked.protocol == "icmp" and error.errno in (errno.EPERM, errno.EACCES):
            mend = "use become, or a probe of another protocol"
            raise ProbeError(f"{where}.protocol", "icmp is for root only", mend) from None
        raise ProbeError(where, f"cannot be sent: {error.strerror}", "mend that, or leave the probe out") from None
