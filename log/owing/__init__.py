# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was begun by one call, is to be ended by another, and is not yet."""
