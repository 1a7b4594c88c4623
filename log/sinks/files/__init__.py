# SPDX-License-Identifier: LGPL-2.1-or-later
"""What gets bytes: lines come in; files, pipes and whoever reads them get them whole."""
