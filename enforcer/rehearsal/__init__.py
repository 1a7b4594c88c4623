# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies on recorded calls: which of these they would deny."""
