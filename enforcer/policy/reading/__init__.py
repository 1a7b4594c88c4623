# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads policies: TOML comes in; rules go out, or where it is wrong and how."""
