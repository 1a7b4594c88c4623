# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of libvirt 9.0's 1,354 arguments, exactly those stay addresses of which nobody could say more."""

from __future__ import annotations

from collections import Counter

from probes.api.load import load_api
from probes.api.table import SCALAR_KINDS, Function, Param
from probes.internals.layouts import LAYOUTS
from probes.kernel import records
from probes.plans.builder import Builder
from probes.plans.meaning.captured import Limits
from probes.plans.pointers import Arguments, Pointers

TABLE = load_api([])


def is_decoded(function: Function, param: Param) -> bool:
    """Whether it is shown by what is behind it, when the function is entered or when it returns."""
    places = {other.name: records.RETURN_ARGS + 8 * i for i, other in enumerate(function.params)}
    moments = {"in": (False,), "out": (True,), "in-out": (False, True)}[param.direction]
    return all(
        Pointers(
            Builder(records.RETURN_FIXED_ARGS, Limits(256, True)),
            Arguments(function, places, at_return=moment),
            TABLE,
            LAYOUTS["gobject"],
        ).read(param)
        for moment in moments
    )


def test_what_stays_a_pointer() -> None:
    how: Counter[str] = Counter()
    stay: set[tuple[str, str]] = set()
    for function in TABLE.functions:
        if function.library != "libvirt.so.0" or tuple(map(int, function.since.split("."))) > (
            9,
            0,
            0,
        ):
            continue
        for param in function.params:
            if param.kind != "pointer":
                how["number" if param.kind in SCALAR_KINDS else param.kind] += 1
            elif is_decoded(function, param):
                how["behind a pointer"] += 1
            elif param.secret:
                how["secret"] += 1  # the program's credentials, and lists that are being built
            else:
                how["pointer"] += 1
                stay.add(
                    (function.name, param.name)
                    if function.access != "plumbing"
                    else ("plumbing", param.ctype)
                )
    assert how == {
        "handle": 480,
        "number": 423,
        "behind a pointer": 202,
        "string": 123,
        "xml": 42,
        "callback": 37,
        "secret": 21,
        "pointer": 26,
    }
    # what only the program knows
    assert all(name == "opaque" for function, name in stay if function != "plumbing")
    # what is freed or printed, and was shown by the call that gave it
    assert {ctype for function, ctype in stay if function == "plumbing"} == {
        "void *",
        "virErrorPtr",
        "virDomainFSInfoPtr",
        "virDomainIOThreadInfoPtr",
        "virDomainInterfacePtr",
        "virDomainStatsRecordPtr *",
        "virNetworkDHCPLeasePtr",
    }
