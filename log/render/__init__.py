# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in, text goes out."""

# what forms of a log are called (forms.py has them)
FORMS = ("text", "json", "xml", "ocsf", "ecs", "cef", "auditd")
