# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is on the host: the process that traces, its clock and its terminal; processes,
libraries and daemons in folders.
"""
