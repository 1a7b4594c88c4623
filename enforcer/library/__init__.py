# SPDX-License-Identifier: LGPL-2.1-or-later
"""The preloaded library: the functions and numbers of its stubs are made here; the rest is C."""
