# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; one line each goes out in the forms of security programs: OCSF, ECS, CEF and the
Linux audit system's.

All of them say the same facts, in the fields that each standard has for these.
"""
