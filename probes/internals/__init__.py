# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirt looks like inside: files of libraries come in, offsets with their evidence go
out.
"""
