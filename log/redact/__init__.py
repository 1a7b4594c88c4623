# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hides what may be a secret, in command lines, URIs, documents, commands, parameters and
messages.
"""
