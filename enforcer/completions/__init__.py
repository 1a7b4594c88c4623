# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completions: parsers of command lines come in, scripts for shells go out."""
