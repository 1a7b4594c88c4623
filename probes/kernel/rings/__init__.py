# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel hands over: rings come in, their records go out."""
