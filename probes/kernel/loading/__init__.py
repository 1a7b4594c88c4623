# SPDX-License-Identifier: LGPL-2.1-or-later
"""The BPF programs: their source comes in; loaded programs and their maps go out."""
