# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of libvirt's daemons: their clients, their guests, the calls that they are in."""
