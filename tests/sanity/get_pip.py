# Copyright: the palisade.egress contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the get-pip script of ansible-test where that cannot be downloaded.

ansible-test runs it in an empty virtual environment, with the arguments of `pip install` and two flags of its own.
"""

from __future__ import annotations

import subprocess
import sys

OWN_FLAGS = {"--no-setuptools", "--no-wheel"}


def main() -> None:
    """Bring pip from the interpreter's bundle, then let it install what was asked for."""
    arguments = [argument for argument in sys.argv[1:] if argument not in OWN_FLAGS]
    subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=True)


if __name__ == "__main__":
    main()
