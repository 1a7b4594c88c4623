# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tracer is told of policies, put together."""

from __future__ import annotations

from enforcer.counting import shown
from enforcer.coverage import Coverage, host_enforcers, named_policy
from probes.tracing.covering import Guard

GUARD = Guard(Coverage, host_enforcers, shown, named_policy)
