# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a record holds, as one file to look at: a page of HTML, or a trace for Perfetto."""
