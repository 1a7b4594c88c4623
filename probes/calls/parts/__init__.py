# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one call's records say: bytes come in; values, errors and verdicts go out."""
