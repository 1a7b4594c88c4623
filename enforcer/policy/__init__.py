# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies as they are written: TOML comes in, rules go out."""
