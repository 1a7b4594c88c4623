# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies: TOML, its rules, what is compiled of them, and what they say of a call."""
