# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is on the host: processes, their mappings, libraries, users, cgroups."""
