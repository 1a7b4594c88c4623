# SPDX-License-Identifier: LGPL-2.1-or-later
"""What lines of text are made of: an event comes in, a list `role, text, role, text, ...` goes out,
with the time in front and a newline at the end.
"""
