# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts the enforcer's library into programs and services."""
