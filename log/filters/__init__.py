# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; those that are wanted, or what they come to, go out."""
