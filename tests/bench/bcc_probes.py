# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python3 -m tests.bench.bcc_probes LIBRARY FUNCTION...`: seconds that BCC takes to attach to the
functions and to detach come out.

Both an entry and a return probe. A process of its own, because BCC needs tracefs to detach.
"""

from __future__ import annotations

import ctypes
import sys
import time

import bcc

from probes.kernel.loading.compiling import STUBS, stub_headers


def mend() -> None:
    """BCC 0.26 forgets the last argument, the offset of a reference count: what lies on the
    stack makes an attach fail now and then.
    """
    attach = bcc.lib.bpf_attach_uprobe
    attach.argtypes = [*attach.argtypes[:6], ctypes.c_uint32]
    bcc.lib.bpf_attach_uprobe = lambda *arguments: attach(*arguments[:6], 0)


def main(path: str, names: list[str]) -> None:
    """Times it."""
    with stub_headers():
        module = bcc.BPF(text="int nothing(void *ctx) { return 0; }", cflags=[f"-I{STUBS}"])
    mend()
    started = time.monotonic()
    for name in names:
        module.attach_uprobe(name=path, sym=name, fn_name="nothing")
        module.attach_uretprobe(name=path, sym=name, fn_name="nothing")
    attached = time.monotonic()
    for name in names:
        module.detach_uprobe(name=path, sym=name)
        module.detach_uretprobe(name=path, sym=name)
    print(attached - started, time.monotonic() - attached)


main(sys.argv[1], sys.argv[2:])
