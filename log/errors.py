# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one exception that carries a message for the user; only tracer.py catches it."""


class TraceError(Exception):
    """What happened, then what to do: one line each, lower case, without the program's name."""
