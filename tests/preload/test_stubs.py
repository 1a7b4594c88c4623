# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every stub, against a libvirt that is none: arguments in registers, on the stack and in SSE
registers arrive as they were passed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from probes.api.load import stub_table
from probes.api.table import LIBRARIES
from tests.enforced import compiled, library
from tests.needs import ROOT, lack

TABLE = stub_table()
# each function: its own number, if all arguments are what the caller passed; the last three are on
# the stack
FAKE = """
#define ARGUMENTS long a, long b, long c, long d, long e, long f, MORE long g, long h, long i, \\
	double k, double l, double m, double n, double o, double p, double q, double r
#ifdef __aarch64__
#define MORE long x, long y,
#else
#define MORE
#endif
static int same(ARGUMENTS)
{
#ifdef __aarch64__
	if (x != 107 || y != 108)
		return 0;
#endif
	return *(long *)a == 11 && b == 12 && c == 13 && d == 14 && e == 15 && f == 16 &&
	       g == 17 && h == 18 && i == 19 && k == 0.5 && l == 1.5 && m == 2.5 && n == 3.5 &&
	       o == 4.5 && p == 5.5 && q == 6.5 && r == 7.5;
}
#ifdef __aarch64__
#define PASS a, b, c, d, e, f, x, y, g, h, i, k, l, m, n, o, p, q, r
#else
#define PASS a, b, c, d, e, f, g, h, i, k, l, m, n, o, p, q, r
#endif
#define FUNCTION(name, number) long name(ARGUMENTS) { return same(PASS) ? 100000 + number : -5; }
void virReportErrorHelper(int domain, int code) { (void)domain; (void)code; }
void virDispatchError(void *conn) { (void)conn; }
"""
CALLER = """
#include <stdio.h>
#ifdef __aarch64__
#define REST 107L, 108L, 17L, 18L, 19L
#else
#define REST 17L, 18L, 19L
#endif
#define CALL(name, number) do { long got = name((long)handle, 12L, 13L, 14L, 15L, 16L, REST, \\
	0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5); if (got == 100000 + number) good++; \\
		else printf("%s %ld\\n", #name, got); } while (0)
#define FUNCTION(name, number) extern long name();
/* what looks like a handle */
static long handle[8] __attribute__((aligned(16))) = { 11 };
"""


def compile_all(folder: Path, compiler: str, enforcer: str | None = None) -> Path:
    """Three libraries and a program that calls every function of theirs."""
    for number, soname in enumerate(LIBRARIES):
        own = [f"FUNCTION({f.name}, {f.number})" for f in TABLE.functions if f.library == soname]
        source = folder / f"fake{number}.c"
        source.write_text(FAKE + "\n".join(own) + "\n")
        flags = ["-shared", "-fPIC", "-O1", f"-Wl,-soname,{soname}", "-fno-builtin"]
        subprocess.run([compiler, *flags, "-o", folder / soname, source], check=True)
    declared = [f"FUNCTION({f.name}, {f.number})" for f in TABLE.functions]
    calls = [f"CALL({f.name}, {f.number});" for f in TABLE.functions]
    (folder / "caller.c").write_text(
        CALLER
        + "\n".join(declared)
        + ("\nint main(void) { int good = 0;")
        + "\n".join(calls)
        + 'printf("%d\\n", good); }'
    )
    libraries = [str(folder / soname) for soname in LIBRARIES]
    flags = ["-std=gnu11", "-w", "-O1", "-o", str(folder / "caller"), str(folder / "caller.c")]
    subprocess.run([compiler, *flags, *libraries, f"-Wl,-rpath,{folder}"], check=True)
    return folder / "caller"


@pytest.fixture(scope="module")
def fake(tmp_path_factory) -> Path:
    return compile_all(tmp_path_factory.mktemp("fake"), "gcc")


# the loader is asked before any library is initialized
EARLY = """
#include <dlfcn.h>
#include <stdio.h>
static int found;
static void early(void)
{
	found = dlopen("libc.so.6", RTLD_LAZY) && dlsym(dlopen(0, RTLD_LAZY), "virDomainLater");
}
__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = early;
int virDomainLater(void) { return 0; }
int main(void) { puts(found ? "found" : "missing"); }
"""


def compile_early(folder: Path, compiler: str) -> Path:
    (folder / "early.c").write_text(EARLY)
    subprocess.run(
        [compiler, "-w", "-rdynamic", "-o", folder / "early", folder / "early.c"], check=True
    )
    return folder / "early"


def call(program: Path, **env: str) -> str:
    return subprocess.check_output([program], env={**os.environ, **env}, text=True)


def test_every_argument_arrives_through_every_stub(fake):
    every = f"{len(TABLE.functions)}\n"
    assert call(fake) == every
    assert call(fake, LD_PRELOAD=str(library())) == every


def test_the_loader_is_there_before_the_library_is_initialized(tmp_path):
    assert call(compile_early(tmp_path, "gcc"), LD_PRELOAD=str(library())) == "found\n"


def test_they_arrive_when_a_rule_looks_at_the_call(fake, tmp_path):
    (tmp_path / "policy.bin").write_bytes(
        compiled('[[rule]]\nname = "all"\naction = "audit"\nfunction = "*"\nuser = ["!4711"]\n')
    )
    printed = call(
        fake, LD_PRELOAD=str(library()), LIBVIRT_TRACE_POLICY=str(tmp_path / "policy.bin")
    )
    assert printed == f"{len(TABLE.functions)}\n"


def test_denied_functions_return_what_their_type_demands(fake, tmp_path):
    (tmp_path / "policy.bin").write_bytes(
        compiled('[[rule]]\nname = "all"\naction = "deny"\nfunction = "*"\n')
    )
    printed = call(
        fake, LD_PRELOAD=str(library()), LIBVIRT_TRACE_POLICY=str(tmp_path / "policy.bin")
    )
    *denied, count = printed.splitlines()
    judged = [function for function in TABLE.functions if function.access != "plumbing"]
    assert int(count) == len(TABLE.functions) - len(judged)
    expected = {
        f"{f.name} {-1 if f.failure in ('negative', 'minus_one', 'minus_one_if_error') else 0}"
        for f in judged
    }
    assert set(denied) == expected


def test_other_architecture_does_the_same(tmp_path):
    """Assembled for aarch64, disassembled, and run under emulation against the same fake
    libvirt.
    """
    compiler, emulator = "aarch64-linux-gnu-gcc", "qemu-aarch64"
    for tool in (compiler, emulator):
        if not shutil.which(tool):
            lack("preload", f"{tool} is not installed")
    build = tmp_path / "build"
    subprocess.run(
        ["make", "-s", "enforcer", "MACHINE=aarch64", f"CC={compiler}", f"BUILD={build}", "STRIP="],
        cwd=ROOT,
        check=True,
    )
    preloaded = build / "libvirt-trace-enforcer.so"

    listing = subprocess.check_output(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", preloaded], text=True
    )
    for function in TABLE.functions:
        body = listing.partition(f"<{function.name}>:\n")[2].split("\n\n")[0].split("\n")[:3]
        instructions = [line.split("\t", 1)[1].split("//")[0].split() for line in body]
        assert instructions[0] == ["bti", "c"] and instructions[1] == [
            "mov",
            "w17,",
            f"#0x{function.number:x}",
        ], function.name
        assert instructions[2][0] == "b" and instructions[2][2] == "<enforcer_enter>", function.name

    program = compile_all(tmp_path, compiler)
    run = [
        emulator,
        "-L",
        "/usr/aarch64-linux-gnu",
        "-E",
        f"LD_PRELOAD={preloaded}",
        "-E",
        f"LD_LIBRARY_PATH={tmp_path}",
    ]
    assert subprocess.check_output([*run, program], text=True) == f"{len(TABLE.functions)}\n"
    assert (
        subprocess.check_output([*run, compile_early(tmp_path, compiler)], text=True) == "found\n"
    )
    (tmp_path / "policy.bin").write_bytes(
        compiled(
            '[[rule]]\nname = "n"\naction = "deny"\nfunction = ["virDomainSuspend", '
            '"virDomainLookupByName"]\n'
        )
    )
    printed = subprocess.check_output(
        [*run, "-E", f"LIBVIRT_TRACE_POLICY={tmp_path}/policy.bin", program], text=True
    )
    assert sorted(printed.splitlines()) == sorted(
        [str(len(TABLE.functions) - 2), "virDomainSuspend -1", "virDomainLookupByName 0"]
    )
