# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of JSON come in, the events that they were made of go out."""
