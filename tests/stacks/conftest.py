# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixtures of test_stacks.py, for languages whose tools are large."""

from __future__ import annotations

from tests.kernel.test_stacks import compare, endless, own, way

__all__ = ["compare", "endless", "own", "way"]
