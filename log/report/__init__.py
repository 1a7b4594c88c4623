# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a record holds in all: tables, a page of HTML, or a trace for Perfetto."""
