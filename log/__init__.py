# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; text, JSON lines, XML and a summary go out."""

VERSION = "0.1.0"
