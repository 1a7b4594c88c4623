# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies on recorded calls: what they would deny, and which one would allow what was seen."""
