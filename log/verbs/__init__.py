# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines that ask records: words come in, answers are printed."""
