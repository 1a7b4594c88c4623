# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies out of what was done: records come in; rules for it go out, with their evidence."""
