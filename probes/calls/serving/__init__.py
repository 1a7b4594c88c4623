# SPDX-License-Identifier: LGPL-2.1-or-later
"""What daemons do, and for whom: records of their inner functions come in; clients, causes
and domains go out.
"""
