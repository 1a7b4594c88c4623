# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tracing: what is wanted comes in; probes are attached, and the events of traced calls go out."""

# how it is learnt what calls returned, as users name it (ways.py)
AUTO, PROBE, RET = "auto", "probe", "ret"
