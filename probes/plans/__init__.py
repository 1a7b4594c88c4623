# SPDX-License-Identifier: LGPL-2.1-or-later
"""Functions come in; copy plans and the readers of what they copied go out."""
