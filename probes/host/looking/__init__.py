# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks into processes and files of others, which may keep whoever looks waiting or cost more than
they should.
"""
