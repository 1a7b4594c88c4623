# SPDX-License-Identifier: LGPL-2.1-or-later
"""The BPF program and what talks to the kernel: maps, links, rings."""
