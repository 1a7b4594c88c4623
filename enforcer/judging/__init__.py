# SPDX-License-Identifier: LGPL-2.1-or-later
"""What policies say of a call: the same that the library says."""
