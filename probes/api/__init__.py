# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirt's functions are: its API description comes in, a table goes out."""
