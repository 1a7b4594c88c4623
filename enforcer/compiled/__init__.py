# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiled policies: rules come in; the file that the library obeys goes out, and what it says."""
