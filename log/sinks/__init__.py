# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the log goes: screen, files, pipes, a summary."""
