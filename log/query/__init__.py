# SPDX-License-Identifier: LGPL-2.1-or-later
"""Questions to records: paths and filters come in; the events that answer them go out."""
