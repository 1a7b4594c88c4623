# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python3 -m enforcer.completions SHELL`: its script goes to standard output."""

from __future__ import annotations

import sys

from enforcer.completions.bash import bash
from enforcer.completions.fish import fish
from enforcer.completions.verbs import verbs
from enforcer.completions.zsh import zsh

if __name__ == "__main__":
    print({"bash": bash, "zsh": zsh, "fish": fish}[sys.argv[1]](verbs()), end="")
