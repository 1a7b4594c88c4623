# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random programs under random policies on a real libvirtd: what each call may do is said again
by a plain model of the rules.
"""
