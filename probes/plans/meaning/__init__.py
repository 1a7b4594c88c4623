# SPDX-License-Identifier: LGPL-2.1-or-later
"""What captured bytes mean: numbers and strings come in, values of the log go out."""
