# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose a file is: what stat() says of it comes in; whether only that user can write to it
comes out.
"""

from __future__ import annotations

import os
import stat

ROOT = 0


def is_only_of(user: int, status: os.stat_result) -> bool:
    """Whether nobody but this user, and root, can write to the file."""
    return status.st_uid == user and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
