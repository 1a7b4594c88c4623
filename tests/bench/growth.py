# SPDX-License-Identifier: LGPL-2.1-or-later
"""What grows with a host: library files, domains, threads and connections to a daemon; what tracing
costs with few and with many.
"""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

from probes.host.libraries.library import Target
from tests.bench.cost import CATCH_UP_MS
from tests.bench.runs import CALLER, Command, Programs, Rounds, call, remove
from tests.bench.table import Row
from tests.daemon import Daemon

PART = "growth"
FILES, QUICK_FILES = (1, 10, 100), (1, 3)
LISTED, QUICK_LISTED = (100, 10_000), (10, 100)  # domains
TOLD, QUICK_TOLD = (100, 1000), (10, 100)  # domains whose statistics are asked for
THREADS, QUICK_THREADS = (1, 64), (1, 8)
CONNECTIONS, QUICK_CONNECTIONS = (10, 1000), (10, 50)
CALLS, BURSTS, QUICK_BURSTS = 2000, 5, 1
OWN = ("--json", "-n", CALLER)  # of the caller only
OF_DAEMON = ("-n", "rpc-libvirtd", "-n", "prio-rpc-libvir")
LINEAR = "at most as with few"


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """Few and many, one after the other."""
    quick = rounds.quick
    return [
        *_files(
            programs, target, QUICK_FILES if quick else FILES, QUICK_BURSTS if quick else BURSTS
        ),
        *_domains(
            programs, "list", "a list of {:,} domains: more", QUICK_LISTED if quick else LISTED
        ),
        *_domains(programs, "stats", "statistics of {:,}: more", QUICK_TOLD if quick else TOLD),
        *_threads(programs, QUICK_THREADS if quick else THREADS),
        *_connections(programs, QUICK_CONNECTIONS if quick else CONNECTIONS),
    ]


def _files(programs: Programs, target: Target, counts: tuple[int, ...], bursts: int) -> list[Row]:
    """Copies of the library, each a file of its own for the kernel."""
    found: list[Row] = []
    log, folder = programs.folder / "growth.jsonl", programs.folder / "copies"
    folder.mkdir()
    for count in counts:
        copies = [folder / f"libvirt.so.0.{number}" for number in range(count)]
        for copy in copies:
            if not copy.exists():
                shutil.copy(target.path, copy)
        command = Command(*OWN, *_libraries(copies), log=log)
        with log.open() as lines:
            attach = json.loads(lines.readline())["attach_ms"]
        took = min(call(programs, "burst", CALLS, bursts, CATCH_UP_MS))
        ended = command.stop()
        remove(log)
        files = f"{count} more library file{'s' if count > 1 else ''}"
        found += [
            Row(PART, f'{files}: start to "attached"', command.start_s, "s"),
            Row(PART, f"{files}: attach, a file", attach / (count + 1), "ms", target=LINEAR),
            Row(PART, f"{files}: a call", took, "ns", target=LINEAR),
            Row(PART, f"{files}: peak resident memory", ended.peak_bytes / (1 << 20), "MiB"),
            Row(PART, f"{files}: SIGINT to its exit", ended.stop_s, "s"),
        ]
    shutil.rmtree(folder)
    return found


def _libraries(paths: list[Path]) -> list[str]:
    return [word for path in paths for word in ("--library", str(path))]


def _domains(programs: Programs, what: str, named: str, counts: tuple[int, ...]) -> list[Row]:
    """What a domain of a list costs more, as every element is told."""
    found = []
    host = programs.folder / "growth.xml"
    for count in counts:
        names = ["test", *(f"vm{number}" for number in range(1, count))]
        host.write_text(f"<node>{''.join(map(_domain, names))}</node>")
        env = {"BENCH_URI": f"test://{host}"}
        plain = min(call(programs, what, BURSTS, env=env))
        traced = _traced(programs, (what, BURSTS), env)
        found.append(Row(PART, named.format(count), traced - plain, "ns a domain", target=LINEAR))
    return found


def _domain(name: str) -> str:
    return (
        f"<domain type='test'><name>{name}</name><memory>65536</memory>"
        "<os><type>hvm</type></os></domain>"
    )


def _threads(programs: Programs, counts: tuple[int, ...]) -> list[Row]:
    """Processor time of a call, more than untraced."""
    found = []
    env = {"BENCH_FREE": "1"}
    for count in counts:
        words = ("threads", count, CALLS * max(counts) // count // 10)
        plain = min(call(programs, *words, env=env))
        traced = _traced(programs, words, env)
        threads = f"{count} thread{'s' if count > 1 else ''}"
        found.append(Row(PART, f"{threads}: more", traced - plain, "ns a call", target=LINEAR))
    return found


def _connections(programs: Programs, counts: tuple[int, ...]) -> list[Row]:
    """Connections to one daemon, all of them open at the end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found = []
    with Daemon(settings="max_clients = 2000\n") as daemon:
        env = {"BENCH_URI": daemon.uri.replace("qemu:///system", "test+unix:///default")}
        for count in counts:
            plain = min(call(programs, "connect", count, env=env))
            log = programs.folder / "growth.jsonl"
            command = Command(*OWN, *OF_DAEMON, log=log)
            traced = min(call(programs, "connect", count, env=env))
            peak = command.stop().peak_bytes
            remove(log)
            found += [
                Row(PART, f"{count:,} connections: more", traced - plain, "us each", target=LINEAR),
                Row(PART, f"{count:,} connections: peak resident memory", peak / (1 << 20), "MiB"),
            ]
    return found


def _traced(programs: Programs, words: tuple[object, ...], env: dict[str, str]) -> float:
    log = programs.folder / "growth.jsonl"
    command = Command(*OWN, log=log)
    took = min(call(programs, *words, env=env))
    ended = command.stop()
    remove(log)
    if ended.lost:
        raise SystemExit(f"bench: {ended.lost} calls were lost")
    return took
