# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python3 -m tests.model [--seconds N] [--seed N]`: goes on with other programs and policies
until the time is over. Needs root.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.model.places import Place
from tests.model.run import Mismatch, Run, Tally
from tests.needs import NEEDS

PLACES = ("daemon", "client", "sasl")


def main() -> None:
    """Exits with 1 at the first mismatch."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.model",
        description="Holds the enforcer to a plain model of its rules.",
    )
    parser.add_argument(
        "--seconds", metavar="N", type=float, default=600, help=("how long, in all (600)")
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=int(time.time()),
        help="what a failure is repeated with",
    )
    parser.add_argument("--place", choices=PLACES, action="append", help="only there")
    options = parser.parse_args()
    for need in NEEDS["system"]:
        if missing := need():
            sys.exit(f"model: {missing}; `make deps` installs what is missing")
    places = options.place or PLACES
    for kind in places:
        tally, until = Tally(), time.monotonic() + options.seconds / len(places)
        try:
            with Place(kind) as place:
                run = Run(place, options.seed, tally)
                while time.monotonic() < until:
                    run.run_policy()
        except Mismatch as mismatch:
            sys.exit(f"model: {mismatch}\n{'; '.join(tally.lines())}")
        print(
            "\n".join((f"{kind}, seed {options.seed}: {line}") for line in tally.lines()),
            flush=True,
        )


main()
