# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors that users meet. Private to this collection."""

from __future__ import annotations


class EgressError(Exception):
    """One problem, told so that the reader can mend it.

    ``where`` names the place (a variable and host, a rule and option, a command), ``what`` the problem,
    ``mend`` what to write or do instead; each is a sentence without its full stop. ``cause`` is for programs, where
    they have to tell this error from others.
    """

    cause = ""

    def __init__(self, where: str, what: str, mend: str) -> None:
        super().__init__(f"{where}: {what}. {mend[:1].upper()}{mend[1:]}.")
        self.where = where
        self.what = what
        self.mend = mend


class RuleError(EgressError):
    """A rule or chain that the data contract does not allow."""


class UnsupportedError(EgressError):
    """A valid rule that the backend at hand cannot carry."""


class LockoutError(EgressError):
    """Rules under which the host could not be managed any more."""


class KernelError(EgressError):
    """The system's firewall tool is missing, may not be used, or refused what it was given."""


class NotRestoredError(KernelError):
    """A change went wrong, and what was there before could not be brought back either."""


class MissingProgramError(KernelError):
    """The system's firewall tool is not installed."""


class PolicyError(EgressError):
    """An inventory from which no policy can be compiled."""


class ProbeError(EgressError):
    """A probe that cannot be, or that this host cannot send."""
