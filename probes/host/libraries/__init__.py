# SPDX-License-Identifier: LGPL-2.1-or-later
"""What processes have loaded: mappings come in; the files to attach to go out."""
