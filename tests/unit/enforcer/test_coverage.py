# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which calls a policy covers, process by process."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enforcer import coverage
from enforcer.compiled import layout, summary
from enforcer.compiled.files import MEMORY_FILE
from enforcer.coverage import Coverage, policies_of
from probes.api.undescribed import NO_STUB
from probes.host.daemons.programs import Daemons
from tests.enforced import compiled as compile_text
from tests.enforced import put

POLICY = (
    '[[rule]]\nname = "none"\naction = "deny"\nfunction = ["virDomainSuspend", "virDomainResume"]\n'
)
OTHER = (
    '[[rule]]\nname = "none"\naction = "deny"\nfunction = ["virDomainReboot"]\nobject = "web*"\n'
)
READ_MOST = layout.HEAD.size + layout.ROWS_MAX * layout.ROW.size + layout.ORIGIN_MAX


@contextlib.contextmanager
def in_force(data: bytes, seals: int = coverage.SEALS, name: str = MEMORY_FILE) -> Iterator[None]:
    """The policy is mapped in this process, as the enforcer does it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    with mmap.mmap(fd, len(data), mmap.MAP_SHARED, mmap.PROT_READ):
        os.close(fd)
        yield


class Every(Daemons):
    """Every process is a daemon, or none."""

    def __init__(self, answer: bool) -> None:
        super().__init__()
        self.answer = answer

    def is_daemon(self, pid: int) -> bool:
        return self.answer


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "SYSTEM_POLICY", put(tmp_path / "policy.bin", POLICY))


def test_the_hosts_policy_covers_everybody_until_it_is_taken_away(system, tmp_path):
    covered = Coverage(Every(False))
    assert len(covered.covered_for(os.getpid())) == 2
    (tmp_path / "policy.bin").unlink()
    covered.refresh()
    assert covered.covered_for(os.getpid()) == frozenset()


def test_a_daemon_that_is_enforced_has_no_gaps(system):
    """Threads of its drivers make calls that nobody is asked about."""
    covered = Coverage(Every(True))
    assert len(covered.covered_for(os.getpid())) == 2
    covered.enforced(os.getpid())
    assert covered.covered_for(os.getpid()) == frozenset()


def test_a_child_is_enforced_until_it_becomes_another_program(system):
    covered = Coverage(Every(True))
    covered.enforced(100)
    covered.forked(101, 100)
    assert covered.covered_for(101) == frozenset()
    covered.replaced(101)
    assert len(covered.covered_for(101)) == 2


def environment(proc: Path, pid: int, text: bytes) -> Path:
    """A process with that environment."""
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "environ").write_bytes(text)
    return proc


def mapped_by(proc: Path, pid: int) -> None:
    """The process has what this one has mapped, and the library."""
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "map_files").symlink_to("/proc/self/map_files")
    library = b"7f0000000000-7f0000001000 r-xp 00000000 00:01 1   /x/libvirt-trace-enforcer.so\n"
    (proc / str(pid) / "maps").write_bytes(Path("/proc/self/maps").read_bytes() + library)


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A host without a policy of its own."""
    monkeypatch.setattr(coverage, "SYSTEM_POLICY", tmp_path / "none.bin")


def test_a_policy_of_a_process_covers_that_process(nothing):
    covered = Coverage(Every(False))
    with in_force(compile_text(POLICY)), in_force(compile_text(OTHER)):
        assert covered.covered_for(os.getpid()) == frozenset()
        covered.enforced(os.getpid())
        assert len(covered.covered_for(os.getpid())) == 3
        assert covered.covered_for(1) == frozenset()
        assert [summary.origin for summary in policies_of(os.getpid())] == ["policy.toml"] * 2


@pytest.mark.parametrize("is_daemon", [False, True])
def test_a_policy_is_meant_for_what_a_program_starts_but_not_a_daemon(nothing, tmp_path, is_daemon):
    covered = Coverage(Every(is_daemon), tmp_path)
    with in_force(compile_text(POLICY)):
        mapped_by(tmp_path, 100)
        covered.enforced(100)
        covered.forked(101, 100)
        covered.replaced(101)
    covered.forked(102, 101)
    covered.replaced(102)
    expected = 0 if is_daemon else 2
    for pid in (101, 102):
        assert len(covered.covered_for(pid)) == len(covered.own_for(pid)) == expected
        assert covered.covers
        covered.forget(pid)
        assert covered.covered_for(pid) == frozenset()


@pytest.mark.parametrize("what", ["has gone", "is another program"])
def test_what_was_in_force_is_meant_after_the_process_was_seen_to_be_none_of_it(
    nothing, tmp_path, what
):
    """A shell's last command is told of when the shell has gone, or has become it."""
    covered = Coverage(Every(False), tmp_path)
    with in_force(compile_text(POLICY)):
        mapped_by(tmp_path, 100)
        covered.enforced(100)
        covered.forked(101, 100)
    (tmp_path / "100" / "maps").unlink()
    (tmp_path / "100" / "map_files").unlink()
    if what == "is another program":
        (tmp_path / "100" / "maps").write_bytes(b"7f00-7f01 r-xp 00000000 00:01 1   /bin/true\n")
    covered.refresh()
    covered.forked(102, 100)
    for pid in (102, 100):
        covered.replaced(pid)
        covered.enforced(pid)  # the library is there, but the call goes past it
        assert len(covered.covered_for(pid)) == 2, pid


def test_what_is_meant_for_a_program_that_nobody_saw_cannot_be_told(nothing, tmp_path):
    """It had the library, and is another program by the time that it is looked at."""
    covered = Coverage(Every(False), tmp_path)
    everything = {f.number for f in covered._known.functions if f.access != "plumbing"}
    covered.enforced(100)
    covered.replaced(100)
    assert covered.covered_for(100) == everything
    covered.enforced(100)
    assert covered.covered_for(100) == frozenset()


def test_a_policy_in_the_environment_is_meant(nothing, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(coverage, "RUN_FOLDER", run)
    put(run / "p.bin", POLICY)
    named = {
        b"A=1\0LIBVIRT_TRACE_POLICY=%s/p.bin\0B=2" % bytes(run): 2,
        b"A=1\0NO_LIBVIRT_TRACE_POLICY=%s/p.bin\0" % bytes(run): 0,
        b"": 0,
        # what can't be told; whoever chooses the path has nothing opened
        b"LIBVIRT_TRACE_POLICY=%s/none.bin\0" % bytes(run): -1,
        b"LIBVIRT_TRACE_POLICY=/home/x/p.bin": -1,
    }
    for pid, (text, expected) in enumerate(named.items(), 100):
        covered = Coverage(Every(False), environment(tmp_path, pid, text))
        covered.loaded(pid)
        assert covered.covers is bool(expected)
        everything = sum(f.access != "plumbing" for f in covered._known.functions)
        assert len(covered.covered_for(pid)) == (everything if expected < 0 else expected), text


def test_environments_are_read_within_limits(nothing, tmp_path, monkeypatch):
    proc = environment(tmp_path, 100, b"LIBVIRT_TRACE_POLICY=/home/x/p.bin")
    covered = Coverage(Every(False), proc)
    monkeypatch.setattr(coverage, "MOST_LOOKED_AT", 0)
    covered.refresh()
    covered.loaded(100)
    assert covered.covers and covered.covered_for(100) == frozenset()
    monkeypatch.undo()
    covered.refresh()
    assert covered.covered_for(100)


def test_a_copy_of_the_hosts_policy_is_not_the_processs_own(system):
    covered = Coverage(Every(False))
    covered.enforced(os.getpid())
    with in_force(compile_text(POLICY)), in_force(compile_text(OTHER)):
        assert len(covered.own_for(os.getpid())) == 1
        assert len(covered.covered_for(os.getpid())) == 3


def test_a_policy_that_is_replaced_is_noticed_at_the_next_refresh(nothing):
    covered = Coverage(Every(False))
    covered.enforced(os.getpid())
    with in_force(compile_text(POLICY)):
        assert len(covered.covered_for(os.getpid())) == 2
    with in_force(compile_text(OTHER)):
        covered.refresh()
        assert len(covered.covered_for(os.getpid())) == 1


def test_what_is_known_is_not_read_again(nothing, monkeypatch):
    covered = Coverage(Every(False))
    covered.enforced(os.getpid())
    with in_force(compile_text(POLICY)):
        before = covered.covered_for(os.getpid())
        for place in ("probes.host.looking.maps.text", "enforcer.coverage._read_sealed"):
            monkeypatch.setattr(place, lambda *_: pytest.fail("read again"))
        for _ in range(5):
            covered.refresh()
            assert covered.covered_for(os.getpid()) == before


@pytest.mark.parametrize(
    "seals", [0, coverage.SEALS & ~fcntl.F_SEAL_WRITE, coverage.SEALS & ~fcntl.F_SEAL_SHRINK]
)
def test_only_what_cannot_change_is_believed(nothing, seals):
    covered = Coverage(Every(False))
    covered.enforced(os.getpid())
    with in_force(compile_text(POLICY), seals):
        assert covered.covered_for(os.getpid()) == frozenset()
        assert list(policies_of(os.getpid())) == []


def test_numbers_of_another_table_mean_nothing(nothing):
    data = bytearray(compile_text(POLICY))
    data[20] ^= 1
    covered = Coverage(Every(False))
    covered.enforced(os.getpid())
    with in_force(bytes(data)):
        assert covered.covered_for(os.getpid()) == frozenset()
        assert [len(summary.covered) for summary in policies_of(os.getpid())] == [2]


def test_lists_of_mappings_have_a_limit(nothing, monkeypatch):
    """Whoever comes when it is reached is covered by what is known, until the next refresh()."""
    covered = Coverage(Every(False))
    covered.enforced(os.getpid())
    monkeypatch.setattr(coverage, "MOST_LOOKED_AT", 1)
    with in_force(compile_text(POLICY)):
        covered.refresh()
        assert len(covered.covered_for(os.getpid())) == 2
        covered.enforced(os.getpid())
        assert covered.covered_for(os.getpid()) == frozenset()
        covered.refresh()
        assert len(covered.covered_for(os.getpid())) == 2


def test_policies_of_nobody_cost_nothing(nothing):
    covered = Coverage(Every(False))
    assert not covered.covers
    covered.enforced(100)
    assert covered.covers
    covered.forget(100)
    assert covered.covers
    for _ in range(coverage.KEPT):
        covered.refresh()
    assert not covered.covers


def test_a_big_policy_is_read_in_part():
    data = compile_text(POLICY)
    data = data[:8] + struct.pack("<I", layout.SIZE_MAX) + data[12:]
    read: list[int] = []

    def give(at: int, length: int) -> bytes:
        read.append(length)
        return data[at : at + length]

    found = summary.summary(give, layout.SIZE_MAX)
    assert found is not None and len(found.covered) == 2
    assert sum(read) <= READ_MOST


@pytest.mark.parametrize(
    "what", ["fifo", "folder", "device", "too large", "of others", "link to nowhere"]
)
def test_what_is_no_policy_of_the_host_is_not_waited_for(tmp_path, monkeypatch, what):
    path = tmp_path / "policy.bin"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "link to nowhere":
        path.symlink_to("nowhere")
    else:
        put(path, POLICY)
        if what == "too large":
            os.truncate(path, 1 << 40)
        else:
            path.chmod(0o666)
    monkeypatch.setattr(coverage, "SYSTEM_POLICY", path)
    assert coverage.system_policy() is None


def test_a_damaged_policy_of_the_host_covers_nothing(tmp_path, monkeypatch):
    path = put(tmp_path / "policy.bin", POLICY)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(coverage, "SYSTEM_POLICY", path)
    assert coverage.system_policy() is None


WHOLE = compile_text(POLICY)
PLACES = st.one_of(st.integers(0, layout.HEAD.size - 1), st.integers(0, len(WHOLE) - 1))
VALUES = st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255))


@settings(max_examples=400, suppress_health_check=[HealthCheck.data_too_large])
@given(
    st.lists(st.tuples(PLACES, VALUES), max_size=12),
    st.integers(0, len(WHOLE)),
    st.booleans(),
    st.booleans(),
)
def test_a_forged_policy_is_read_within_limits_or_refused(changes, length, is_cut, is_fitted):
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    if is_cut:
        del data[length:]
    if is_fitted and len(data) >= layout.HEAD.size:  # as who wants to be believed makes it
        data[:8] = layout.MAGIC
        struct.pack_into("<I", data, 8, len(data))
    if len(data) >= layout.HEAD.size:
        struct.pack_into("<I", data, layout.CHECK_AT, zlib.crc32(data[layout.CHECKED_FROM :]))
    read: list[int] = []

    def give(at: int, count: int) -> bytes:
        assert at >= 0 and count >= 0
        read.append(count)
        return bytes(data[at : at + count])

    found = summary.summary(give, len(data))
    assert sum(read) <= READ_MOST
    assert found == summary.read_summary(bytes(data))
    if found is not None:
        assert (
            found.covered <= frozenset(range(NO_STUB, layout.ROWS_MAX))
            and len(found.origin) <= layout.ORIGIN_MAX
        )
        assert found.mode in ("audit", "enforce") and found.on_error in ("allow", "deny")


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        ('action = "deny"\nclass = "write"', True),
        ('action = "audit"\nclass = "write"\nobject = "web*"', True),
        ('action = "deny"\nclass = "write"\nfunction = ["!virDomainSuspend"]', True),
        ('action = "allow"\nclass = "write"', False),
        ('action = "deny"\nclass = "read"', False),
        ('action = "deny"\nclass = "write"\nfunction = "virDomain*"', False),
        ('action = "deny"\nfunction = "virDomain*"', False),
    ],
)
@pytest.mark.parametrize("is_daemon", [False, True])
def test_functions_without_a_stub_are_covered_where_everything_is_meant(
    nothing, rule, meant, is_daemon
):
    covered = Coverage(Every(is_daemon))
    covered.enforced(os.getpid())
    with in_force(compile_text(f'[[rule]]\nname = "a"\n{rule}\n')):
        found = covered.covered_for(os.getpid())
    assert (NO_STUB in found) is meant
    assert bool(found - {NO_STUB}) is not is_daemon


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_garbage_is_no_policy(garbage):
    assert summary.read_summary(garbage) is None
    summary.read_summary(layout.MAGIC + garbage)


@pytest.mark.parametrize("size", [0, 5, coverage.MOST_ENVIRONMENT, 3 * coverage.MOST_ENVIRONMENT])
def test_of_an_environment_so_much_is_looked_at(tmp_path, size):
    proc = environment(tmp_path, 100, b"x" * size)
    assert len(coverage._environment(100, proc)) == min(size, 1 << 20)
