# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where else events go: a journal, a server of syslog, a collector of spans, Prometheus."""
