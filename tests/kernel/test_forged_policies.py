# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process without privileges that has policies of its own making mapped neither ends the
tracer nor keeps it from its work.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.compiled.layout import CHECK_AT, CHECKED_FROM, HEAD
from tests.enforced import compiled, enforced_environment, library
from tests.kernel.conftest import CALLS, TRACER
from tests.needs import PATIENCE, PYTHON

POLICY = '[[rule]]\nname = "none"\naction = "deny"\nfunction = "virDomainSuspend"\n'
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# FILE...: has each of them mapped, sealed, as the enforcer has its policies, and makes as many
# calls that nobody judges as it is told to
HOSTILE = """
import fcntl, mmap, os, select, sys, libvirt
kept = []
sys.stdin.readline()
for path in sys.argv[1:]:
    size = os.path.getsize(path)
    fd = os.memfd_create("libvirt-trace-policy", os.MFD_ALLOW_SEALING)
    os.write(fd, open(path, "rb").read(1 << 20))
    os.ftruncate(fd, size)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    kept.append(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ))
    os.close(fd)
connection = libvirt.open("test:///default")
for line in sys.stdin:
    for _ in range(int(line)):
        connection.getType()
    print("made", flush=True)
"""


def forged(**fields: int) -> bytes:
    """A policy whose head says that, with the right sum."""
    names = (
        "magic",
        "size",
        "check",
        "digest",
        "made",
        "flags",
        "rows",
        "rules",
        "conditions",
        "rows_at",
        "rules_at",
        "conditions_at",
        "origin",
    )
    data = bytearray(compiled(POLICY))
    head = dict(zip(names, HEAD.unpack_from(data), strict=True)) | fields
    HEAD.pack_into(data, 0, *head.values())
    struct.pack_into("<I", data, CHECK_AT, zlib.crc32(data[CHECKED_FROM:]))
    return bytes(data)


def forgeries() -> dict[str, bytes]:
    """By what is wrong with them."""
    size = len(compiled(POLICY))
    unterminated = compiled(POLICY).rstrip(b"\0") + b"x" * 8
    return {
        "no end of the source": struct.pack("<8sI", unterminated[:8], len(unterminated))
        + unterminated[12:-1]
        + b"x",
        "source at the end": forged(origin=size - 1),
        "rows behind the end": forged(rows_at=size - 8),
        "rows far away": forged(rows_at=0xFFFFFFF0),
        "rows without number": forged(rows=0xFFFFFFFF, rows_at=0),
        "many rows": forged(rows=4096, rows_at=0),
        "made at the end of time": forged(made=2**64 - 1),
        "nothing": b"\0",
        "honest": compiled(POLICY),
        "60 MiB": struct.pack("<8sI", compiled(POLICY)[:8], 60 << 20) + compiled(POLICY)[12:],
    }


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody can read."""
    path = Path(tempfile.mkdtemp(prefix="forged-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_forger_harms_nobody(trace, steps, folder):
    enforcer = shutil.copy(library(), folder)
    paths = []
    for i, data in enumerate(forgeries().values()):
        paths.append(folder / f"{i}.bin")
        paths[-1].write_bytes(data)
    with paths[-1].open("r+b") as big:
        big.truncate(60 << 20)
    honest = steps()
    command = [*NOBODY, PYTHON, "-c", HOSTILE, *map(str, paths)]
    environment = {**enforced_environment(None), "LD_PRELOAD": enforcer}
    forger = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert forger.stdin and forger.stdout
    # what others here call is none of this test's: they may flood the log
    tracer = trace(
        "-p",
        str(honest.pid),
        "-p",
        str(forger.pid),
        "-f",
        "virDomainGetName",
        "-f",
        "virConnectGetType",
    )
    forger.stdin.write("\n")
    rounds, began, now = 0, 0, 0
    try:
        while now - began < 2_500_000_000:  # every second policies are looked at again
            rounds += 1
            forger.stdin.write(f"{CALLS}\n")
            forger.stdin.flush()
            assert forger.stdout.readline() == "made\n"
            honest.call()
            tracer.wait_for(lambda event: event.get("pid") == honest.pid, count=rounds * CALLS)
            now = time.monotonic_ns()
            began = began or now
        done = subprocess.run(
            [*TRACER, "ps"], capture_output=True, text=True, timeout=60 * PATIENCE
        )
        assert (done.returncode, done.stderr) == (0, "") and str(forger.pid) in done.stdout
    finally:
        forger.stdin.close()
        forger.wait(20 * PATIENCE)
        forger.stdout.close()
    result = tracer.stop()
    assert len(result.calls("virDomainGetName", honest.pid)) == rounds * CALLS
    assert len(result.calls("virConnectGetType", forger.pid)) == rounds * CALLS
