# SPDX-License-Identifier: LGPL-2.1-or-later
"""Observing: the API table, copy plans and BPF programs come in; the events of traced calls go
out.
"""
