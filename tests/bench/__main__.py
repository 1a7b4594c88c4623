# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python3 -m tests.bench [--quick] [PART...]`: measures the parts that are asked for, and
prints one table. Needs root.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from probes.host.libraries.library import Target
from probes.host.libraries.targets import Targets, host_libraries
from tests.bench import (
    asking,
    choices,
    command,
    cost,
    day,
    enforcer,
    exports,
    growth,
    judged,
    linking,
    links,
    rate,
    scale,
)
from tests.bench.runs import Programs, Rounds, build
from tests.bench.table import Row, render, render_markdown
from tests.needs import NEEDS

PARTS: dict[str, Callable[[Programs, Target, Rounds], list[Row]]] = {
    "cost": cost.rows,
    "choices": choices.rows,
    "links": links.rows,
    "command": command.rows,
    "scale": scale.rows,
    "growth": growth.rows,
    "linking": linking.rows,
    "rate": rate.rows,
    "enforcer": enforcer.rows,
    "judged": judged.rows,
    "asking": asking.rows,
    "day": day.rows,
    "exports": exports.rows,
}
ROUNDS, QUICK_ROUNDS = 5, 1
BEGIN, END = "<!-- measured -->", "<!-- up to here -->"  # of a page's table


def main() -> None:
    """Measures; progress goes to standard error."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.bench",
        description="Measures what tracing costs, beside other tools.",
    )
    parser.add_argument(
        "parts", metavar="PART", nargs="*", help=(f"only these of {', '.join(PARTS)}")
    )
    parser.add_argument(
        "--quick", action="store_true", help=("one short round each, to see that everything works")
    )
    parser.add_argument(
        "--into", metavar="PAGE", type=Path, help="put the table there too, between its marks"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    for need in NEEDS["bench"]:
        if missing := need():
            sys.exit(f"bench: {missing}; `make deps` installs what is missing")
    rounds = Rounds(QUICK_ROUNDS if options.quick else ROUNDS, options.quick)
    started = time.monotonic()
    table: list[Row] = []
    targets = Targets()
    target = _library(targets)
    with tempfile.TemporaryDirectory(prefix="libvirt-trace-bench-") as folder:
        programs = build(Path(folder))
        for part in options.parts or PARTS:
            print(f"bench: {part} ...", file=sys.stderr, flush=True)
            table += PARTS[part](programs, target, rounds)
    machine = _machine(target, rounds, time.monotonic() - started)
    print(machine)
    print(render(table))
    if options.into:
        _put_into(options.into, f"{' '.join(machine.splitlines())}:\n\n{render_markdown(table)}")
    targets.close()


def _put_into(page: Path, table: str) -> None:
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"bench: {page} has no {BEGIN} with an {END} behind it")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def _library(targets: Targets) -> Target:
    """The libvirt.so.0 that programs of this host load."""
    paths = {os.path.realpath(path) for path in host_libraries()}
    for target in targets.scan():
        if target.soname == "libvirt.so.0" and os.path.realpath(target.path) in paths:
            return target
    sys.exit("bench: no libvirt.so.0 on this host; `make deps` installs it")


def _machine(target: Target, rounds: Rounds, seconds: float) -> str:
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    bpftrace = subprocess.run(
        ["bpftrace", "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    processor = f"{os.cpu_count()} x {model[1] if model else platform.machine()}"
    return (
        f"Linux {platform.release()}, {processor}, libvirt {target.version}, {bpftrace}\n"
        f"medians of {rounds.number} interleaved rounds, {seconds:.0f} s in all; load average "
        f"{os.getloadavg()[0]:.1f}"
    )


main()
