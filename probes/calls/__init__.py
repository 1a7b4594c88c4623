# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records come in; calls, with what caused them and for whom, go out."""
