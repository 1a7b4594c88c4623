# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace list prints the functions that are asked for."""

from __future__ import annotations

import json

import pytest

from log.errors import TraceError
from probes.verbs.functions import show_functions


def test_functions_by_glob(capsys) -> None:
    assert show_functions(["virDomainGetID", "virDomainDestroy*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "virDomainGetID" in "".join(lines)
    assert show_functions(["virDomainGetID", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["function"] == "virDomainGetID"


def test_what_matches_nothing_is_said() -> None:
    with pytest.raises(TraceError, match="no function matches virNoSuch"):
        show_functions(["virNoSuch"])
