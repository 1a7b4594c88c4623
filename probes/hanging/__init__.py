# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that hang since before tracing began: what their processes' memory tells of them."""
