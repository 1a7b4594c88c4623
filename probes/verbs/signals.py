# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals come in; what they ask for stands here until the loop looks."""

from __future__ import annotations

import os
import signal
from types import FrameType

from probes.host.keyboard import Keyboard


class Signals:
    """What was asked of us since the last look."""

    def __init__(self, *, reopens: bool, patience: int) -> None:
        """`reopens`: there is a file that SIGHUP reopens, or a record of which it ends the segment;
        else it means that the terminal is gone.

        `patience`: who asks that often does not want to wait any longer for anything.
        """
        self._reopens = reopens
        self._patience = patience
        self.raises = True  # nothing has been seen yet: who is impatient may have the end at once
        self.stop = 0
        self.terminate = False
        self.reopen = False
        self.show = False  # what is under way
        self.keys: Keyboard | None = None  # `s` asks for the same
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGUSR1, self._note)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGHUP, self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # writing says it
        self.waker, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def is_impatient(self) -> bool:
        """Whether readers are not to be waited for."""
        return self.stop >= self._patience

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.show = True
            return
        if number == signal.SIGHUP and self._reopens:
            self.reopen = True
            return
        self.stop += 1
        self.terminate |= number != signal.SIGINT
        if self.raises and self.is_impatient():
            raise KeyboardInterrupt
