# SPDX-License-Identifier: LGPL-2.1-or-later
"""The time zone of the lines that are compared."""

import time

import pytest

from log.render import units


@pytest.fixture
def utc(monkeypatch):
    """UTC, for one test."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    units._second.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    units._second.cache_clear()
