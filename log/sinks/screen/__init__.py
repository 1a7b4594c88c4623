# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people look at: events come in; lines, tables and bars on a terminal go out."""
