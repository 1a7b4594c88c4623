# SPDX-License-Identifier: LGPL-2.1-or-later
"""The record: events come in and are kept in sealed segments, which can be verified."""
