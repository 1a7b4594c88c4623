# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tracing costs, measured beside other tools: `python3 -m tests.bench` prints one table."""
