# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines that trace: words come in, what is seen is shown."""
