# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirt-trace record writes to: its options come in; the recorder of a folder goes out, and
what systemd is told of it.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable

from log import VERSION
from log.events import Recording
from log.recording.folder import make_folder
from log.recording.format import need_zstandard
from log.recording.keeping import Keeping
from log.recording.recorder import Recorder
from log.redact.tables import read_all
from log.sinks.service import Service
from probes.api.load import load_api
from probes.tracing.filters import Filters


def record_sinks(
    options: Namespace,
    filters: Filters,
    slower_ns: int | None,
    complain: Callable[[str], None],
    anchor: Callable[[str], None],
) -> tuple[Recorder, Service]:
    """What writes the record, and what tells systemd of it; `anchor` keeps a line elsewhere.
    TraceError where that is not possible.
    """
    need_zstandard()
    read_all()
    about = Recording(
        time=0,
        version=VERSION,
        host=os.uname().nodename,
        machine=None,
        boot=None,
        kernel=os.uname().release,
        table=load_api().hash,
        filters={
            key: list(item) if isinstance(item, tuple) else item
            for key, item in vars(filters).items()
            if item
        },
        limits={"string": options.string, "reads": options.reads, "slower_ns": slower_ns},
        clock={},
        previous=None,
    )
    keeping = Keeping(options.keep, options.max_size, options.spare)
    folder = make_folder(options.folder)
    recorder = Recorder(
        folder,
        about,
        complain,
        keeping=keeping,
        reads=options.reads,
        slower_ns=slower_ns,
        anchor=anchor,
    )
    return recorder, Service(recorder.is_well, recorder.status)
