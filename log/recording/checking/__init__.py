# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a record is as it was written, and holds all there was."""
