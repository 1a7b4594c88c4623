# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `libvirt-trace list` shows: the API table comes in, a line per function goes out."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence

from probes.api.table import ApiTable, Function, Param, Result


def functions(table: ApiTable, globs: Sequence[str], *, as_json: bool) -> list[str]:
    """The functions that a glob matches (all without one), sorted by name: class, then the
    signature as it is decoded.
    """
    chosen = [
        f
        for f in table.functions
        if not globs or any(fnmatch.fnmatchcase(f.name, glob) for glob in globs)
    ]
    chosen.sort(key=lambda function: function.name)
    return [
        _as_json(function) if as_json else (f"{function.access:<11} {signature(function)}")
        for function in chosen
    ]


def signature(function: Function) -> str:
    """`virDomainSuspend(domain) = int`: arguments by name, with what they are decoded to where
    the name doesn't tell.
    """
    arguments = ", ".join(_argument(param) for param in function.params)
    return f"{function.name}({arguments}) = {_decoded(function.result)}"


def _argument(param: Param) -> str:
    decoded = _decoded(param)
    return param.name if decoded == param.name else f"{param.name}: {decoded}"


def _decoded(what: Param | Result) -> str:
    if what.secret:
        return "secret"
    if what.kind == "handle":
        return what.object or what.ctype
    if what.enum:
        return what.enum
    if what.kind in ("string", "xml"):
        return what.kind
    return what.ctype or "?"


def _as_json(function: Function) -> str:
    return json.dumps(
        {
            "function": function.name,
            "library": function.library,
            "since": function.since or None,
            "class": function.access,
            "args": [
                {"name": param.name, "type": param.ctype, "decoded": _decoded(param)}
                for param in function.params
            ],
            "ret": {"type": function.result.ctype, "decoded": _decoded(function.result)},
        }
    )
