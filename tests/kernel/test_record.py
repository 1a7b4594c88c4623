# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace record on real programs: nothing is missing, also of one that is killed, and
what is shown later is what was shown live.
"""

from __future__ import annotations

import collections
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.needs import PATIENCE, PYTHON, ROOT
from tests.readme import README, without_sessions
from tests.recorded import TRACER, ask, lines_of, run_record

# reads, writes, failures, long strings and hostile names of several threads; prints nothing
# a change for each line of standard input
STEPS = """
import libvirt
steps = libvirt.open("test:///default").lookupByName("test")
for _ in range(3):
    input()
    steps.setMemoryFlags(8192)
    print(flush=True)
"""
WORK = """
import ctypes, libvirt, threading
libvirt.registerErrorHandler(lambda *_: None, None)
connection = libvirt.open("test:///default")
domain = connection.lookupByName("test")
def work():
    for number in range(23):
        domain.name(); domain.info()
        domain.setMemory(1024 + number); domain.setAutostart(number % 2)
        try:
            connection.lookupByName("\\x1b[31m nosuch \\u202e" + "x" * 40 * number)
        except libvirt.libvirtError:
            pass
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
xml = "<domain type='test'><name>b&amp;\\u00fc</name><memory>9</memory>"
xml += "<os><type>hvm</type></os></domain>"
connection.defineXML(xml).undefine()
"""
COMMAND = ("--", PYTHON, "-c", WORK)
TIMES = 3 * 23
NOBODY = 65534


@pytest.mark.parametrize("reads", ["full", "counted", "none"])
def test_made_is_written_and_counted(tmp_path: Path, reads: str) -> None:
    done = run_record(tmp_path / "record", "--reads", reads, *COMMAND)
    assert done.returncode == 0 and " 0 lost in " in done.stderr and not done.stdout, done.stderr
    made: collections.Counter[str] = collections.Counter()
    written: collections.Counter[str] = collections.Counter()
    for line in lines_of(tmp_path / "record"):
        if line["type"] in ("call", "reads"):
            made[line["function"]] += line.get("calls", 1)
            written[line["function"]] += line["type"] == "call"
        elif line["type"] == "end":
            assert line["lost"] == 0
            calls = line["calls"]
    assert made["virDomainSetMemory"] == made["virDomainSetAutostart"] == TIMES
    assert (
        made["virDomainLookupByName"] == TIMES + 1
        if reads != "none"
        else written["virDomainLookupByName"] == TIMES
    )
    assert made["virDomainGetInfo"] == made["virDomainGetName"] == (0 if reads == "none" else TIMES)
    assert written["virDomainGetInfo"] == (TIMES if reads == "full" else 0)
    assert reads == "none" or sum(made.values()) == calls
    rows = json.loads(ask("report", tmp_path / "record", "--json").stdout)["functions"]
    assert {row["function"]: row["calls"] for row in rows} == {
        function: count for function, count in made.items() if count
    }
    verdict = ask("verify", tmp_path / "record")
    assert verdict.returncode == 0 and verdict.stdout.startswith(b"intact: "), verdict


# what other tests trace: every method of libvirt-python, and calls that fail
OTHERS = [ROOT / "tests" / "kernel" / name for name in ("every_binding.py", "failures.py")]
ALL = ("--", "sh", "-c", f'for work in "$@"; do {PYTHON} "$work" >/dev/null; done', "sh", *OTHERS)


def test_log_shows_the_same_characters_as_live(tmp_path: Path) -> None:
    """Of one run each form that it has had: the screen and the file of -o. COMMAND itself
    prints nothing.
    """
    for number, (options, filed, kept, command) in enumerate(
        (
            ((), "json", "300", COMMAND),
            (("--format", "xml"), "xml", "300", COMMAND),
            (("--tree", "--both", "-c"), "json", "65536", ALL),
        )
    ):
        folder, file = tmp_path / str(number), tmp_path / f"file-{number}"
        done = run_record(
            folder, "--show", "--reads", "full", "-s", kept, *options, "-o", file, *command
        )
        assert " 0 lost in " in done.stderr, done.stderr
        shown = ask("log", folder, "-s", kept, *options)
        assert shown.stdout.decode() == done.stdout
        assert done.stdout.count("\n") > 5 * TIMES
        # the file has a last line; in the record seals and the first line are more
        for source in (folder, next(folder.glob("*.zst"))):
            again = ask("log", source, "-s", kept, "--format", filed).stdout.decode()
            lines = [
                line for line in again.splitlines() if not line.startswith('{"type":"recording"')
            ]
            assert lines == file.read_text().splitlines()
        if filed == "json":
            assert ask("log", file, "-s", kept, *options).stdout == shown.stdout, (
                "lines of -o are a record, too"
            )
            assert (
                ask("log", "-", "-s", kept, *options, stdin=file.read_bytes()).stdout
                == shown.stdout
            )


def test_killed_recorder_has_on_disk_what_had_happened(tmp_path: Path, caller) -> None:
    folder = tmp_path / "record"
    work = f"{WORK}\nprint('done', flush=True); input()"
    program = subprocess.Popen(
        [PYTHON, "-c", f"input()\n{work}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    recorder = subprocess.Popen(
        [*TRACER, "record", folder, "-p", str(program.pid)], stderr=subprocess.DEVNULL
    )
    assert program.stdin and program.stdout
    try:
        wait_until(lambda: folder.exists() and b"attached to" in ask("log", folder).stdout)
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "done\n"
        wait_until(
            lambda: ask("log", folder, "-f", "virDomainUndefine").stdout.count(b" = 0 ") == 1
        )
    finally:
        recorder.send_signal(signal.SIGKILL)
        recorder.wait()
        program.kill()
        program.wait()
    found = ask("log", folder, "-w")
    assert (
        found.stdout.count(b"virDomainSetMemory(")
        == found.stdout.count(b"virDomainSetAutostart(")
        == TIMES
    )
    assert run_record(folder, "--", "true").returncode == 0
    after = ask("log", folder, "-w").stdout
    assert b"nothing was recorded until" in after and b": killed\n" in after
    verdict = ask("verify", folder)
    assert verdict.stdout.startswith(b"intact: ") and b": killed\n" in verdict.stdout, verdict


def test_follow_shows_what_comes_also_in_the_next_segment(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    assert run_record(folder, "--", "true").returncode == 0
    follower = subprocess.Popen(
        [*TRACER, "log", folder, "--follow", "-w", "--json"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert follower.stdout and b'"type":"recording"' in follower.stdout.readline()
        assert run_record(folder, *COMMAND).returncode == 0
        lines = iter(follower.stdout.readline, b"")
        assert next(line for line in lines if b'"function":"virDomainUndefine"' in line)
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20 * PATIENCE) in (0, 130)


def test_neither_a_hangup_nor_an_upgrade_ends_a_record(tmp_path: Path, caller) -> None:
    """A hangup is what systemctl reload and logrotate send, and begins another segment. An upgrade
    of this program or of Python takes files away that were not loaded until then.
    """
    folder, unit = tmp_path / "record", (ROOT / "libvirt-trace.service").read_text()
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in unit
    work = [PYTHON, "-c", STEPS + WORK]
    program = subprocess.Popen(work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    own, said = tmp_path / "own", tmp_path / "said"
    for name in ("log", "probes", "enforcer"):
        shutil.copytree(ROOT / name, own / name)
    shutil.copy(ROOT / "tracer.py", own)
    with said.open("w") as stderr:
        recorder = subprocess.Popen(
            [PYTHON, "-E", "-s", "-X", "importtime", own / "tracer.py", "record", folder, "-p",
             str(program.pid)],
            stderr=stderr,
        )  # fmt: skip

    def step() -> None:
        assert program.stdin and program.stdout
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "\n"

    def segments() -> int:
        return len(list(folder.glob("*.zst")))

    def closed() -> int:
        heads = [file.read_bytes()[-4:] for file in folder.glob("*.zst")] if folder.exists() else []
        return heads.count(b"\xb1\xea\x92\x8f")  # the end of zstd's seek table

    try:
        wait_until(lambda: folder.exists() and b"attached to" in ask("log", folder).stdout)
        loaded = said.read_text().count("import time:")
        shutil.rmtree(own)
        for number in (1, 2):
            step()
            wait_until(lambda count=number: segments() == count)
            recorder.send_signal(signal.SIGHUP)
            wait_until(lambda count=number: closed() == count)
        step()
        assert program.wait(20 * PATIENCE) == 0
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(20 * PATIENCE) == 0
    finally:
        for process in (recorder, program):
            process.kill()
            process.wait()
    told = said.read_text()
    assert " 0 lost in " in told and told.count("import time:") == loaded, told[-500:]
    found = ask("log", folder, "-f", "virDomainSetMemory").stdout.decode()
    assert found.count(" virDomainSetMemory(") == TIMES and "nothing was recorded" not in found
    verdict = ask("verify", folder).stdout.decode()
    assert verdict.startswith("intact: 3 segments") and verdict.count("  from ") == 1, verdict
    assert ": not running" in verdict


def test_start_that_fails_is_told_as_such_and_not_as_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    assert run_record(folder, "--", "true").returncode == 0
    failed = run_record(folder, "--library", tmp_path / "nosuch.so")
    why = failed.stderr.removeprefix("libvirt-trace: ").rstrip("\n")
    assert failed.returncode == 1 and "nosuch.so" in why and "\n" not in why, failed.stderr
    assert run_record(folder, "--", "true").returncode == 0
    verdict = ask("verify", folder).stdout.decode()
    assert verdict.startswith("intact: 3 segments") and "killed" not in verdict, verdict
    assert verdict.count(f": tracing could not start: {why}\n") == 1, verdict
    assert f"tracing could not start: {why}\n" in ask("log", folder).stdout.decode()


def test_record_of_another_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    first = subprocess.Popen([*TRACER, "record", folder], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(folder.glob("*.zst")) if folder.exists() else False)
        second = run_record(folder, "--", "true")
        assert second.returncode == 1 and (f"process {first.pid} records there") in second.stderr, (
            second.stderr
        )
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(20 * PATIENCE) == 0
    assert ask("verify", folder).stdout.startswith(b"intact: ")


# as ProtectSystem=strict has it: what is to be written is in the record or, as nothing is kept yet,
# in the cache; ProtectKernelTunables hides the kernel's symbols
READ_ONLY = """
set -eu
record=$1; shift
install -d -m 700 "$record" /var/cache/libvirt-trace
mounts=$(findmnt -rno TARGET | grep -Ev '^/(dev|proc|sys)(/|$)')
mount -t tmpfs -o mode=700 none /var/cache/libvirt-trace
mount --bind "$record" "$record"
for mounted in $mounts; do  # others may be taken away meanwhile
    mount -o remount,bind,ro "$mounted" || ! mountpoint -q "$mounted"
done
mount --bind /dev/null /proc/kallsyms
test ! -w /tmp -a ! -w /var/tmp -a ! -w "$record/.."
cd /
exec "$@"
"""


def _unit(key: str) -> str:
    """What the service's unit says."""
    unit = (ROOT / "libvirt-trace.service").read_text()
    (value,) = re.findall(rf"^{key}=(.*)$", unit, re.M)
    return str(value)


def _left_with(
    capabilities: Iterable[str], *command: object, within: Iterable[object] = ()
) -> subprocess.Popen[str]:
    """The command with these capabilities, and no new ones, and else as the unit has it; `within`:
    what runs it.
    """
    assert _unit("LimitMEMLOCK") == "infinity"
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]  # as far as root may here

    def prepare() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, int(_unit("Nice")))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))

    kept = (f"+{word.removeprefix('CAP_').lower()}" for word in capabilities)
    bounded = f"--bounding-set={','.join(['-all', *kept])}"
    return subprocess.Popen(
        [*map(str, within), "setpriv", "--no-new-privs", bounded, *map(str, command)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


@pytest.fixture
def private() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A user's program, which waits for a line, with a libvirt that only the user may look at."""
    with tempfile.TemporaryDirectory(prefix="libvirt-trace-private-") as folder:
        yield from _private(Path(folder) / "libvirt.so.0")


def _private(library: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    shutil.copy(os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0"), library)
    library.chmod(0o600)
    for path in (library, library.parent):
        os.chown(path, NOBODY, NOBODY)
    program = subprocess.Popen(
        [
            *("setpriv", f"--reuid={NOBODY}", "--clear-groups", PYTHON, "-c"),
            f"import libvirt; print(flush=True); input()\n{WORK}\nprint(flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)},
    )
    try:
        assert program.stdout and program.stdout.readline() == "\n"
        yield program, library
    finally:
        program.kill()
        program.wait()


def _told(told: socket.socket, recorder: subprocess.Popen[str]) -> bytes:
    """What systemd is told next."""
    deadline = time.monotonic() + 60 * PATIENCE
    while True:
        try:
            return told.recv(4096)
        except TimeoutError:
            assert time.monotonic() < deadline
            assert recorder.poll() is None, recorder.communicate()


def test_what_the_service_is_left_with_is_enough(tmp_path: Path, private) -> None:
    """Its capabilities and folders; the first start, which compiles; a user's program is traced,
    and systemd is told of the start, of life and of the end.
    """
    folder, path = tmp_path / "record", str(tmp_path / "notify")
    program, library = private
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.settimeout(0.2)
        recorder = _left_with(
            _unit("CapabilityBoundingSet").split(),
            *("env", f"NOTIFY_SOCKET={path}", *TRACER, "record", folder, "-p", program.pid),
            within=("unshare", "--mount", "sh", "-c", READ_ONLY, "sh", folder),
        )
        try:
            assert _told(told, recorder) == b"READY=1"
            assert _told(told, recorder).startswith(b"WATCHDOG=1\nSTATUS=recording; ")
            assert os.getpriority(os.PRIO_PROCESS, recorder.pid) == -10
            wait_until(lambda: str(library).encode() in ask("log", folder, "--json").stdout)
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "\n"
            recorder.send_signal(signal.SIGTERM)
            while (state := _told(told, recorder)) != b"STOPPING=1":
                assert state.startswith(b"WATCHDOG=1")
            assert recorder.wait(20 * PATIENCE) == 0
        finally:
            recorder.kill()
            recorder.communicate()
    found = ask("log", folder, "-f", "virDomainSetMemory").stdout.decode()
    assert found.count(" nobody virDomainSetMemory(domain=test, ") == TIMES, found


# what a recorder says that lacks one of them
LACKS = {
    "CAP_SYS_ADMIN": "run it with --privileged\n",
    "CAP_SYS_PTRACE": "CAP_SYS_PTRACE is missing\n",
    "CAP_DAC_READ_SEARCH": " is seen: it can't be opened: Permission denied\n",
}


def test_service_has_no_capability_that_it_could_do_without(tmp_path: Path, private) -> None:
    kept = _unit("CapabilityBoundingSet").split()
    assert set(kept) == set(LACKS)
    recorders = {
        missing: _left_with(
            [word for word in kept if word != missing], *TRACER, "record", tmp_path / missing
        )
        for missing in kept
    }
    try:
        _, library = private
        unseen = f"not every call of {library}{LACKS['CAP_DAC_READ_SEARCH']}".encode()
        folder = tmp_path / "CAP_DAC_READ_SEARCH"
        wait_until(lambda: folder.exists() and unseen in ask("log", folder).stdout)
        for missing in ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"):
            error = recorders[missing].stderr
            assert error and any(line.endswith(LACKS[missing]) for line in error)
    finally:
        for recorder in recorders.values():
            recorder.send_signal(signal.SIGTERM)
        for recorder in recorders.values():
            recorder.communicate()


def test_secrets_are_in_no_record(tmp_path: Path, caller) -> None:
    folder = tmp_path / "record"
    done = run_record(
        folder, "--reads", "full", "--nested", "-a", "--", caller("secrets", "-lvirt-qemu")
    )
    assert " 0 lost in " in done.stderr, done.stderr
    text = "".join(str(line) for line in lines_of(folder))
    assert "redacted" in text and "swordfish" not in text
    assert run_record(folder, "--no-redact").returncode == 2


HISTORY = """
import libvirt
connection = libvirt.open("test:///default")
UUID = "11111111-2222-4333-8444-555555555555"
DISK = "<disk type='file'><source file='/{0}'/><target dev='{0}'/></disk>"
DOMAIN = "<domain type='test'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>{}</memory>" \\
         "<os><type>hvm</type></os><devices>{}</devices></domain>"
def define(name, memory, *disks):
    found = "".join(map(DISK.format, disks))
    return connection.defineXML(DOMAIN.format(name, UUID, memory, found))
define("web0", 64, "vda")
domain = define("web0", 128, "vda", "vdb")
domain.rename("web1", 0)
connection.lookupByName("web1").setAutostart(1)
define("web1", 128, "vda").undefine()
"""


def test_history_of_a_domain_goes_on_across_its_rename(tmp_path: Path) -> None:
    """Asked by either name, and by its UUID; what it was defined as is told by what changed."""
    folder = tmp_path / "record"
    done = run_record(folder, "--", PYTHON, "-c", HISTORY)
    assert " 0 lost in " in done.stderr, done.stderr
    asked = [("--object", "web0"), ("--object", "web1"),
             ("--uuid", "11111111-2222-4333-8444-555555555555")]  # fmt: skip
    told = [ask("log", folder, *words, "-w").stdout.decode() for words in asked]
    assert told[0] == told[1] == told[2]
    calls = [re.sub(r"^\S+ \d+ python3 root | <\S+>$", "", line)
             for line in without_sessions(told[0]).splitlines()
             if " python3 root " in line]  # fmt: skip
    defined = "virDomainDefineXML(conn=test:///default, xml=<domain name="
    assert calls == [
        f"{defined}web0 memory=64MiB disks=1>) = web0",
        f"{defined}web0 memory=64MiB -> 128MiB, +disk vdb>) = web0",
        'virDomainRename(dom=web0, new_name="web1", flags=0) = 0',
        "virDomainSetAutostart(domain=web1, autostart=1) = 0",
        f"{defined}web0 -> web1, -disk vdb>) = web1",
        "virDomainUndefine(domain=web1) = 0",
    ]
    assert f"`{calls[1]}`" in README.read_text()
    lines = ask("log", folder, "--object", "web1", "--json").stdout.decode()
    assert lines.count("<memory unit='MiB'>128</memory>") == 2 and "->" not in lines


def wait_until(holds) -> None:
    deadline = time.monotonic() + 30 * PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()
