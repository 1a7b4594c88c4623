# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a question about one object costs in a record of a whole day, beside the common tools: ten
million calls on 400 domains, of which a few are busy at a time. The common tools look at each line,
and jq needs an hour for them: they are asked a tenth of the day.

The record is made of the recorder's own frames, seals and indexes, but for its events: their lines
are filled in, as making ten million events takes half an hour.
"""

from __future__ import annotations

import random
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from log.moments import rfc3339
from log.recording.entry import Entry, Summing, entry_of
from log.recording.folder import segment_name
from log.recording.format import NO_CHAIN, compress, seal_line
from log.recording.index import MOST_FRAMES, Index, tail
from log.recording.keeping import LARGEST_SEGMENT
from probes.host.libraries.library import Target
from tests.bench.runs import Programs, Rounds
from tests.bench.table import Row
from tests.needs import PYTHON, ROOT
from tests.unit.log_samples import DESTROY, call_on

PART = "asking a day"
CALLS, QUICK_CALLS = 10_000_000, 20_000
TENTH = 10
SECOND = 10**9
SECONDS = 86_400
DOMAINS, BUSY, NAME = 400, 4, "vm77"
OURS, GREP, JQ = "libvirt-trace log --object", "zstdgrep", "zstdcat | jq"
BEGUN = 1_800_000_000 * SECOND


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """Processor time of each tool, once; each must find the same calls."""
    calls = QUICK_CALLS if rounds.quick else CALLS
    day, tenth = programs.folder / "day", programs.folder / "tenth"
    day.mkdir(0o700)
    tenth.mkdir(0o700)
    meant, content = make_day(day, calls)
    some, _ = make_day(tenth, calls // TENTH)
    ours = f"{PYTHON} -E -s {ROOT / 'tracer.py'} log --object {NAME} {day} | grep vir"
    table = [
        Row(PART, f"{calls:,} calls as JSON lines", content / 1e9, "GB"),
        Row(PART, "  a call in the record", stored_in(day) / calls, "bytes"),
        Row(PART, f"{OURS}, {meant:,} found", _asked(ours, meant), "s", target="at most 2 s"),
    ]
    files = " ".join(map(str, sorted(tenth.glob("*.zst"))))
    others = {
        GREP: f"""zstdgrep -h '"name":"{NAME}"' {files}""",
        JQ: f"""zstdcat {files} | jq -c 'select(.args.domain.name == "{NAME}")'""",
    }
    for what, command in others.items():
        took = _asked(command, some)
        table.append(Row(PART, f"{what}, a tenth of it, {some:,} found", took, "s"))
    return table


def stored_in(folder: Path) -> int:
    """Bytes of a record."""
    return sum(file.stat().st_size for file in folder.glob("*.zst"))


def _asked(command: str, wanted: int) -> float:
    """Seconds of one processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=False)
    found = done.stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if found.count(b"\n") != wanted:
        raise SystemExit(f"bench: {command}: {found.count(10)} calls found, not {wanted}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_day(folder: Path, calls: int) -> tuple[int, int]:
    """A record of so many calls; how many of them are on the one domain, and bytes of lines."""
    chain, number, meant, written, data, index = NO_CHAIN, 0, 0, 0, bytearray(), Index()
    for content, summing, found in _seconds(calls):
        number += 1
        seal, chain = seal_line(rfc3339(summing.last), number, content, summing.events, chain)
        raw = compress(content + seal)
        index.add(summing.row(len(raw), len(content) + len(seal)), summing.marks)
        data += raw
        meant += found
        written += len(content)
        if len(data) >= LARGEST_SEGMENT or len(index.rows) >= MOST_FRAMES:
            _close(folder, number, data, index)
            data, index = bytearray(), Index()
    if data:
        _close(folder, number, data, index)
    return meant, written


def _close(folder: Path, number: int, data: bytearray, index: Index) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(BEGUN // SECOND + number))
    (folder / segment_name("bench", stamp)).write_bytes(bytes(data) + tail(index))


def _seconds(calls: int) -> Iterator[tuple[bytes, Summing, int]]:
    """The lines of each second, what the index says of them, and how many are meant."""
    chance = random.Random(1)
    templates = [_template(f"vm{number}", number % 3 == 0) for number in range(DOMAINS)]
    a_second = max(calls // SECONDS, 1)
    busy = [int(NAME[2:]), *range(1, BUSY)]
    for second in range(calls // a_second):
        if second and second % 10 == 0:
            busy = [chance.randrange(DOMAINS) for _ in range(BUSY)]
        summing, lines, found = Summing(), [], 0
        begun = BEGUN + second * SECOND
        clock = rfc3339(begun)[:20]
        for number in range(a_second):
            domain = busy[number % BUSY]
            line, entry = templates[domain]
            part = chance.randrange(SECOND)
            took = chance.randrange(50_000, 40_000_000)
            lines.append(line % (clock, part, begun + part, took))
            if number < BUSY:
                summing.add(entry._replace(first=begun, last=begun + SECOND))
            found += domain == int(NAME[2:])
        summing.events = summing.calls = a_second
        yield "".join(lines).encode(), summing, found


def _template(domain: str, write: bool) -> tuple[str, Entry]:
    function = "virDomainSuspend" if write else "virDomainGetInfo"
    call = call_on(domain)._replace(write=write, function=function)
    entry = entry_of(call)
    line = entry.line.replace("%", "%%")
    for known, place in (
        (rfc3339(DESTROY.time), "%s%09dZ"),
        (f"-{DESTROY.time}", "-%d"),
        (f'"duration_ns":{DESTROY.duration_ns}', '"duration_ns":%d'),
    ):
        assert known in line
        line = line.replace(known, place)
    return line, entry
