# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests: a test's folder is its marker and says what it needs (needs.py)."""
