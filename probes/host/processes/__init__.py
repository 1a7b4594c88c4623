# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who processes are: what the kernel and /proc say comes in; callers, logins and trees go out."""
