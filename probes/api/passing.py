# SPDX-License-Identifier: LGPL-2.1-or-later
"""How libvirt's functions pass what is behind their pointers: an argument comes in; its direction
and length go out.

libvirt's API description has neither. One table: the general rules first, which also hold for
functions yet to come, then the exceptions. Checked against the sources of 11.3.0; those that write
to memory also against the functions that libvirt-python wraps by hand (9.0.0).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import NamedTuple

IN, OUT, IN_OUT = "in", "out", "in-out"


class Passing(NamedTuple):
    """How what is behind a pointer is passed.

    `length`, in elements (in bytes behind `void *`, `char *`, `unsigned char *`):
    "" one, "N" an argument's name, "*N" the number behind that pointer, when it has been written;
    "A*B" a product; "return" the result; "return bits" a bitmap of so many bits; "null" up to a
    NULL pointer; a number.
    """

    direction: str
    length: str = ""


class Args(NamedTuple):
    """A group of arguments; `function` and `argument` are globs, `ctypes` is separated by ", ",
    "vir*" in it is any such name.

    A length of several alternatives ("nparams|ncpus") takes the first that is an argument of the
    function.
    """

    function: str
    argument: str
    ctypes: str
    direction: str
    length: str
    reason: str


RULES = (
    Args("*", "*", "virTypedParameterPtr, virNodeCPUStatsPtr, virNodeMemoryStatsPtr", OUT,
         "*nparams", "*nparams: its room, then its use"),
    Args("*", "*", "virTypedParameterPtr", IN, "nparams",
         "counted by value, so the callee can only read"),
    Args("*", "*", "virTypedParameterPtr *", OUT, "*nparams", "allocated by the callee"),
    Args("*", "*", "vir*Ptr **", OUT, "return",
         "a list that the callee allocates: its length is the result"),
    Args("*", "*", "char ***", OUT, "return", "likewise, of strings"),
    Args("*", "*", "char ** const, char **", OUT, "return",
         "as many strings as there is room for; how many, is the result"),
    Args("*", "*", "const char **", IN, "ncpus|nmountpoints|nkeys", "an array of strings"),
    Args("*", "uuid", "const unsigned char *", IN, "16", "VIR_UUID_BUFLEN bytes"),
    Args("*", "uuid", "unsigned char *", OUT, "16", "likewise"),
    Args("*", "buf", "char *", OUT, "",
         "a UUID as text: VIR_UUID_STRING_BUFLEN bytes with its NUL"),
    Args("*", "nparams", "int *, unsigned int *", IN_OUT, "",
         "room for parameters in, their number out"),
    Args("*", "*", "vir*InfoPtr, vir*StatsPtr, virSecurityLabelPtr, virSecurityModelPtr", OUT, "",
         "the caller's struct, to be filled"),
    Args("*", "*",
         "int *, unsigned int *, unsigned long *, long long *, unsigned long long *, size_t *, "
         "double *",
         OUT, "", "a number"),
    Args("*", "*", "virErrorPtr", IN_OUT, "", "freed, cleared or printed"),
    Args("*", "*", "void *", IN, "",
         "the program's own, which libvirt only hands on: nothing is known about what is there"),
)  # fmt: skip
EXCEPTIONS = (
    Args("virDomainGetCPUStats", "params", "virTypedParameterPtr", OUT, "nparams*ncpus",
         "parameters of each CPU, one CPU after the other"),
    Args("virTypedParamsAdd*", "params", "virTypedParameterPtr *", IN_OUT, "*nparams", "grows"),
    Args("virTypedParamsAdd*", "maxparams", "int *", IN_OUT, "", "likewise"),
    Args("virTypedParamsGetString", "value", "const char **", OUT, "", "a string in the list"),
    Args("virTypedParamsAddStringList", "values", "const char **", IN, "null", "NULL ends it"),
    Args("virDomainListGetStats", "doms", "virDomainPtr *", IN, "null", "likewise"),
    Args("virDomainStatsRecordListFree", "stats", "virDomainStatsRecordPtr *", IN, "null",
         "likewise"),
    Args("virDomainGetSchedulerType", "nparams", "int *", OUT, "",
         "how many parameters the scheduler has; its value before is not read"),
    Args("virDomainQemuMonitorCommand*", "result", "char **", OUT, "", "one string"),
    Args("virConnectSetIdentity", "params", "virTypedParameterPtr", IN, "nparams",
         "who a daemon acts for"),
    Args("virDomainGetSecurityLabelList", "seclabels", "virSecurityLabelPtr *", OUT, "return",
         "allocated by the callee, not as pointers"),
    Args("virDomainLxcEnterSecurityLabel", "model", "virSecurityModelPtr", IN, "",
         "what to enter; only oldlabel is filled"),
    Args("virDomainLxcEnterSecurityLabel", "label", "virSecurityLabelPtr", IN, "", "likewise"),
    Args("virDomainGetDiskErrors", "errors", "virDomainDiskErrorPtr", OUT, "return",
         "as many as there is room for"),
    Args("virDomainMemoryStats", "stats", "virDomainMemoryStatPtr", OUT, "return", "likewise"),
    Args("virDomainGetVcpus", "info", "virVcpuInfoPtr", OUT, "return", "likewise"),
    Args("virDomainGetVcpus", "cpumaps", "unsigned char *", OUT, "return*maplen",
         "a bitmap for each CPU that is told about"),
    Args("virDomainGetVcpuPinInfo", "cpumaps", "unsigned char *", OUT, "return*maplen", "likewise"),
    Args("virDomainGetEmulatorPinInfo", "cpumap", "unsigned char *", OUT, "maplen", "a bitmap"),
    Args("virDomainPin*", "cpumap", "unsigned char *", IN, "maplen",
         "likewise, not const but only read"),
    Args("virNodeGetCPUMap", "cpumap", "unsigned char **", OUT, "return bits",
         "a bit for each of the host's CPUs"),
    Args("virDomainCreate*WithFiles", "files", "int *", IN, "nfiles",
         "file descriptors for the guest"),
    Args("virDomainFDAssociate", "fds", "int *", IN, "nfds", "likewise"),
    Args("virDomainQemuMonitorCommandWithFiles", "infiles", "int *", IN, "ninfiles", "likewise"),
    Args("virDomainQemuMonitorCommandWithFiles", "outfiles", "int **", OUT, "*noutfiles",
         "likewise, from QEMU"),
    Args("virDomainLxcOpenNamespace", "fdlist", "int **", OUT, "return", "file descriptors"),
    Args("virDomainLxcEnterNamespace", "fdlist", "int *", IN, "nfdlist", "likewise"),
    Args("virDomainLxcEnterNamespace", "oldfdlist", "int **", OUT, "*noldfdlist", "likewise"),
    Args("virDomainSendKey", "keycodes", "unsigned int *", IN, "nkeycodes", "keys to press"),
    Args("virNodeAllocPages", "pageSizes", "unsigned int *", IN, "npages",
         "sizes and how many of each"),
    Args("virNodeAllocPages", "pageCounts", "unsigned long long *", IN, "npages", "likewise"),
    Args("virNodeGetFreePages", "pages", "unsigned int *", IN, "npages",
         "sizes that are asked about"),
    Args("virNodeGetFreePages", "counts", "unsigned long long *", OUT, "npages*cellCount",
         "by cell, then by size"),
    Args("virNodeGetCellsFreeMemory", "freeMems", "unsigned long long *", OUT, "return",
         "of so many cells"),
    Args("virConnectListDomains", "ids", "int *", OUT, "return", "as many as there is room for"),
    Args("virDomain*Peek", "buffer", "void *", OUT, "size", "a part of the guest's memory or disk"),
    Args("virSecretSetValue", "value", "const unsigned char *", IN, "value_size",
         "not a string: may hold NULs"),
    Args("virStreamSend", "data", "const char *", IN, "nbytes", "bytes, without a NUL"),
    Args("virStreamRecv*", "data", "char *", OUT, "return", "as many bytes as were there"),
    Args("vir*CopyLastError", "to", "virErrorPtr", OUT, "", "the caller's struct, to be filled"),
    Args("virConnectOpenAuth", "auth", "virConnectAuthPtr", IN, "",
         "what the program can be asked for, and how"),
    Args("virDomain*Free", "*",
         "virDomainFSInfoPtr, virDomainIOThreadInfoPtr, virDomainInterfacePtr", IN, "",
         "to be freed"),
    Args("virNetworkDHCPLeaseFree", "lease", "virNetworkDHCPLeasePtr", IN, "", "likewise"),
)  # fmt: skip


def passing(
    function: str, name: str, ctype: str, arguments: Sequence[tuple[str, str]]
) -> Passing | None:
    """How the argument `name` of type `ctype` is passed; None: nobody knows. `arguments`:
    (name, C type) of all of the function's.
    """
    types = dict(arguments)
    if (
        name == "nparams"
        and ctype.endswith("*")
        and types.get("params") == "virTypedParameterPtr *"
        and "maxparams" not in types
    ):
        return Passing(OUT)  # the callee allocates the parameters, so there is no room to tell
    rule = find_rule(function, name, ctype, arguments)
    return Passing(rule.direction, _length(rule, types) or "") if rule else None


def find_rule(
    function: str, name: str, ctype: str, arguments: Sequence[tuple[str, str]]
) -> Args | None:
    """The first rule that fits the argument."""
    types = dict(arguments)
    for rule in (*EXCEPTIONS, *RULES):
        if (
            fnmatch.fnmatchcase(function, rule.function)
            and fnmatch.fnmatchcase(name, rule.argument)
            and _is_one_of(ctype, rule.ctypes)
            and _length(rule, types) is not None
        ):
            return rule
    return None


def _length(rule: Args, types: dict[str, str]) -> str | None:
    return next((length for length in rule.length.split("|") if _counts(length, types)), None)


def _is_one_of(ctype: str, known: str) -> bool:
    return any(
        re.fullmatch(re.escape(one).replace(r"vir\*", r"vir\w*"), ctype)
        for one in known.split(", ")
    )


def _counts(length: str, types: dict[str, str]) -> bool:
    """Whether the function has the arguments that such a length speaks of."""
    if length.startswith("*"):
        return types.get(length[1:], "").endswith("*")
    known = ("", "null", "return", "return bits")
    return all(
        part in known or part.isdigit() or not types.get(part, "*").endswith("*")
        for part in length.split("*")
    )
