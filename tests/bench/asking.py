# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a question to a record takes, beside the common tools: a record of many calls is
made by the recorder, and asked.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from statistics import median

from log.values import Flags, Handle, Values
from probes.host.libraries.library import Target
from tests.bench.runs import Programs, Rounds
from tests.bench.table import Row
from tests.needs import PYTHON, ROOT
from tests.unit.log_samples import DESTROY, END
from tests.unit.recording_samples import recorder, settle

PART = "asking a record"
CALLS, QUICK_CALLS = 200_000, 10_000
AT_ONCE, DOMAINS, NAME = 1000, 100, "vm77"
SPACING_NS = 8_640_000  # ten million a day
OURS, JQ, GREP = "libvirt-trace log --object", "zstdcat | jq", "zstdgrep"
TARGET = "less than jq"


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """A row for each tool; each must find the same calls."""
    calls = QUICK_CALLS if rounds.quick else CALLS
    folder = programs.folder / "record"
    _record(folder, calls)
    files = " ".join(map(str, sorted(folder.glob("*.zst"))))
    ways = {
        JQ: f"""zstdcat {files} | jq -c 'select(.args.domain.name == "{NAME}")'""",
        OURS: (
            f"{PYTHON} -E -s {ROOT / 'tracer.py'} log --json --object {NAME} {folder} | grep "
            '\'"type":"call"\''
        ),
        GREP: f"""zstdgrep -h '"name":"{NAME}"' {files}""",
    }
    taken: dict[str, list[float]] = {what: [] for what in ways}
    for _ in range(rounds.number):
        for what, command in ways.items():
            taken[what].append(_asked(command, calls // DOMAINS))
    ratio = median(ours / jq for ours, jq in zip(taken[OURS], taken[JQ], strict=True))
    table = [
        Row(PART, f"{what}, {calls:,} calls", median(values), "s") for what, values in taken.items()
    ]
    return [*table, Row(PART, "  time of ours to that of jq", ratio, "times", target=TARGET)]


def _asked(command: str, wanted: int) -> float:
    """Seconds."""
    started = time.monotonic()
    found = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout.count(
        b"\n"
    )
    took = time.monotonic() - started
    if found != wanted:
        raise SystemExit(f"bench: {command}: {found} calls found, not {wanted}")
    return took


def _record(folder: Path, calls: int) -> None:
    flags = Flags(0, ())
    values = [
        Values(
            {
                "domain": Handle("domain", {"name": f"vm{number}", "uuid": f"{number:032x}"}),
                "flags": flags,
            }
        )
        for number in range(DOMAINS)
    ]
    with recorder(folder) as made:
        for first in range(0, calls, AT_ONCE):
            made.write(
                [
                    DESTROY._replace(
                        write=number % 10 == 0,
                        time=DESTROY.time + number * SPACING_NS,
                        tid=number % 7 + 1,
                        args=values[number % DOMAINS],
                    )
                    for number in range(first, first + AT_ONCE)
                ]
            )
            settle(made)
        made.write([END])
