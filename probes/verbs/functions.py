# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace list: words come in; functions are printed, and the exit status goes out."""

from __future__ import annotations

from collections.abc import Sequence

from log.errors import TraceError
from probes.api import listing
from probes.api.load import load_api
from probes.verbs.parsers import list_parser


def show_functions(arguments: Sequence[str]) -> int:
    """libvirt-trace list"""
    options = list_parser().parse_args(arguments)
    lines = listing.functions(load_api(), options.globs, as_json=options.json)
    if not lines:
        raise TraceError(f"no function matches {' '.join(options.globs)}")
    print("\n".join(lines), flush=True)
    return 0
