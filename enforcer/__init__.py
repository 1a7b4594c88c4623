# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enforcer: policies come in; a compiled policy goes to the preloaded library, which lets
calls pass or denies them.
"""
