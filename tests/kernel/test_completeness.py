# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every call is seen, once: the log against a second counter, which shares nothing with the
tracer but the kernel.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from probes.kernel.loading.compiling import STUBS, stub_headers
from probes.kernel.loading.features import has_uprobe_multi
from tests.kernel.every_function import TIMES
from tests.kernel.with_handles import MADE
from tests.needs import PYTHON, ROOT

LIBRARY = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")
COUNTER = """
struct key { u32 tgid; u32 function; };
BPF_HASH(hits, struct key, u64, 65536);
int count(struct pt_regs *ctx) {
    u64 (*cookie)(void *) = (void *)174;
    struct key key = { bpf_get_current_pid_tgid() >> 32, (u32)cookie(ctx) };
    hits.increment(key);
    return 0;
}
"""
SETUP = {name for name, _ in MADE.values()}
PYTHON_WORK = """
import libvirt, os
print(os.getpid())
libvirt.registerErrorHandler(lambda *_: None, None)
for _ in range(23):
    connection = libvirt.open("test:///default")
    domain = connection.lookupByName("test")
    domain.info(), domain.state(), domain.suspend(), domain.resume()
    domain.XMLDesc(), domain.UUIDString()
    pool = connection.storagePoolLookupByName("default-pool")
    pool.info(), pool.listVolumes(), connection.listAllDomains(), connection.getInfo()
    connection.networkLookupByName("default").bridgeName()
    for failing in (lambda: connection.lookupByName("nosuch"), lambda: domain.create()):
        try:
            failing()
        except libvirt.libvirtError:
            pass
    connection.close()
"""


class Witness:
    """Counts the hits of public functions per process, by a BPF program of its own."""

    def __init__(self) -> None:
        import bcc

        if not has_uprobe_multi():
            pytest.skip("no uprobe_multi on this kernel: the second counter needs it")
        symbols = subprocess.check_output(
            ["nm", "-D", "--defined-only", "--with-symbol-versions", LIBRARY], text=True
        )
        public = [
            line.split()
            for line in symbols.splitlines()
            if "@@LIBVIRT_" in line and "PRIVATE" not in line and " T " in line
        ]
        self.names = [name.partition("@")[0] for _, _, name in public]
        # in this library code is where its addresses say: the first segments are mapped one to one
        offsets = [int(address, 16) for address, _, _ in public]
        with stub_headers():
            self._bpf = bcc.BPF(text=COUNTER.encode(), cflags=[f"-I{STUBS}"])
        function = self._bpf.load_func(b"count", bcc.BPF.KPROBE, None, 48)
        path = ctypes.create_string_buffer(LIBRARY.encode())
        places, cookies = (
            (ctypes.c_uint64 * len(offsets))(*offsets),
            (ctypes.c_uint64 * len(offsets))(*range(len(offsets))),
        )
        where, which, whose = (ctypes.addressof(item) for item in (path, places, cookies))
        # union bpf_attr, link_create.uprobe_multi
        link = struct.pack(
            "<IIIIQQQQIII", function.fd, 0, 48, 0, where, which, 0, whose, len(offsets), 0, 0
        )
        attributes = ctypes.create_string_buffer(link)
        self._link = ctypes.CDLL(None, use_errno=True).syscall(
            321, 28, attributes, len(attributes) - 1
        )
        assert self._link >= 0, os.strerror(ctypes.get_errno())

    def counts(self, pids: set[int]) -> Counter[str]:
        """Hits by function, of these processes."""
        result: Counter[str] = Counter()
        for key, value in self._bpf[b"hits"].items():
            if key.tgid in pids:
                result[self.names[key.function]] += value.value
        return result

    def close(self) -> None:
        os.close(self._link)


@pytest.fixture
def witness():
    witness = Witness()
    yield witness
    witness.close()


# one file for each program's facts; a process that becomes virsh tells its number before
WORK = """
{python} {here}/every_function.py >refused
{python} {here}/with_handles.py >answered
{python} -c "$PYTHON_WORK" >worked
for i in $(seq {times}); do
    sh -c 'echo $$ >>virsh; exec virsh -q -c test:///default "dominfo test; domstate nosuch"' \
        >/dev/null 2>&1 || true
done
"""


def facts_of(path: Path) -> tuple[int, Counter[str]]:
    """The process id, and what it says it called."""
    words = path.read_text().split()
    return int(words[0]), Counter(dict(zip(words[1::2], map(int, words[2::2]), strict=True)))


def test_every_call_of_a_workload_is_in_the_log(trace, witness, tmp_path):
    script = (f"cd {tmp_path}; ") + WORK.format(
        python=PYTHON, here=Path(__file__).parent, times=TIMES
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON_WORK": PYTHON_WORK}
    words = ("-a", "--nested", "--buffer-size", "256", "--", "sh", "-euc", script)
    result = trace(*words, attached=False, env=environment).finish(120)
    assert result.status == 0, result.stderr
    refused_pid, refused = facts_of(tmp_path / "refused")
    answered_pid, answered = facts_of(tmp_path / "answered")
    pids = {
        refused_pid,
        answered_pid,
        *(
            int(pid)
            for name in ("worked", "virsh")
            for pid in (tmp_path / name).read_text().split()
        ),
    }
    assert len(pids) == 3 + TIMES

    calls = [
        call for pid in pids for call in result.calls(pid=pid) if call["library"] == "libvirt.so.0"
    ]
    seen, expected = Counter(call["function"] for call in calls), witness.counts(pids)
    assert seen == expected
    assert len(expected) >= 150
    for pid, made in (refused_pid, refused), (answered_pid, answered):
        assert len(made) >= 150
        mine = Counter(call["function"] for call in result.calls(pid=pid) if call["depth"] == 0)
        assert {name: mine[name] for name in made if mine[name] != TIMES} == dict.fromkeys(
            SETUP & made.keys() if made is answered else (), TIMES + 1
        )
    assert all(
        call["failed"]
        for call in result.calls(pid=refused_pid)
        if call["function"] in refused and call["depth"] == 0
    )
    succeeded = {
        call["function"]
        for call in result.calls(pid=answered_pid)
        if call["depth"] == 0 and not call["failed"]
    }
    assert len(succeeded & answered.keys()) >= 100
