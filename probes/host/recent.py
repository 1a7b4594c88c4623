# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps what was used last; it is the log's."""

from log.recent import Recent

__all__ = ["Recent"]
