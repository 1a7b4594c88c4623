# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has to be known of a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction, as a disassembler has it, and what becomes of the program there."""

    offset: int
    length: int
    name: str
    operands: str
    returns: bool = False  # the function returns there
    calls: bool = False
    jumps: bool = False  # always, or sometimes
    leaves: bool = False  # it goes where no function of a library does
    target: int | None = None  # of a jump or a call; None: a register or memory says

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.length

    def is_switch(self, before: Instruction | None) -> bool:
        """Whether it jumps to where a sum of a table and a distance in it says, which the one
        `before` has made.
        """
        return (
            self.jumps
            and before is not None
            and before.name == "add"
            and before.operands.startswith(f"{self.operands},")
        )


class Machine(NamedTuple):
    """A machine that programs can be traced on; `name` is in those of files, and as elf.py has
    it.
    """

    name: str
    # numbers of system calls
    bpf: int
    perf_event_open: int
    uretprobe: int | None  # from Linux 6.11 on, what a return probe is
    empty: bytes  # machine code of a function that does nothing
    # whether loads are seen in their order, and stores in theirs, by other processors
    is_ordered: bool
    registers: int  # for arguments that are integers and pointers
    stack_at: int  # bytes from the stack pointer, at an entry, to the arguments not in these
    # as tables of frames number them (DWARF)
    stack_pointer: int
    return_address: int
    address: int  # bits of a return address on the stack that are one
    mutex: int  # bytes of a mutex of POSIX threads
    call_bytes: int  # of the longest instruction that calls something
    # whether code of that length ends with one
    ends_with_call: Callable[[bytes], bool]
    # distances from a register at which code reads memory, or takes an address
    displacements: Callable[[bytes], frozenset[int]]
    # whether code reads what is at this distance, as accessors of libvirt do
    loads: Callable[[bytes, int], bool]
    libraries: frozenset[str]  # whose code can be told instructions of, as elf.py has machines
    # of a library with so many bits: the instructions of code at an offset; they end where it is
    # none
    disassembler: Callable[[int], Callable[[bytes, int], list[Instruction]]]
    # of code of an entry of the linkage table, and its offset: how far from its begin the pointer
    # is by which it jumps; None: it is no such entry
    linkage_distance: Callable[[bytes, int], int | None]
