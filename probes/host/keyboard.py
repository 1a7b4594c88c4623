# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys of the terminal come in while it is ours, without Enter and unseen; it is given back as it
was, also while we are stopped.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
from types import FrameType, TracebackType
from typing import Any, Self

STDIN, STDOUT = 0, 1
LFLAG, CC = 3, 6  # of termios' lists
_MOST = 1024  # keys of one look
_ENDING = (signal.SIGTSTP, signal.SIGQUIT)  # that would leave the terminal as it is


def is_keyboard() -> bool:
    """Whether a person looks on and can press keys."""
    return os.isatty(STDIN) and os.isatty(STDOUT)


def is_ours() -> bool:
    """Whether we are in the terminal's foreground."""
    try:
        return os.tcgetpgrp(STDIN) == os.getpgrp()
    except OSError:
        return False  # not the one that we were started from, or it is gone


class Keyboard:
    """Standard input, a terminal. In the background nothing is read and nothing changed."""

    def __init__(self, begin: bytes = b"", end: bytes = b"") -> None:
        """What is written whenever the terminal becomes ours, and when it is given back."""
        self._begin, self._end = begin, end
        self._is_taken = False
        self._before: list[Any] | None = None  # the terminal's settings before ours
        self._own: list[Any] | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        handlers: dict[signal.Signals, Any] = {
            **dict.fromkeys(_ENDING, self._let_go),
            signal.SIGCONT: self._forget,
            # else reading would stop us, if we are put into the background right now
            signal.SIGTTIN: signal.SIG_IGN,
        }
        for number, handler in handlers.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, handler)
        self._take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def pressed(self) -> str:
        """The keys since the last time."""
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._take()
            if self._is_taken and select.select([STDIN], [], [], 0)[0]:
                return os.read(STDIN, _MOST).decode("ascii", "replace")
        return ""

    def has_terminal(self) -> bool:
        """Whether the terminal is ours; it is taken first, if it has just become so."""
        self._take()
        return self._is_taken

    def _take(self) -> None:
        if not is_ours():
            self._is_taken = False  # whoever has it makes it as they like it
            return
        if self._is_taken:
            return
        with contextlib.suppress(termios.error, OSError):
            now = termios.tcgetattr(STDIN)
            if now != self._own:  # else somebody has stopped us and left it so
                self._before = now
            own = [*now[:CC], [*now[CC]]]
            own[LFLAG] &= ~(termios.ICANON | termios.ECHO)  # ISIG stays: Ctrl-C and Ctrl-Z
            # a shell that finds it so, if we are killed, is not to read that its input has ended
            own[CC][termios.VMIN], own[CC][termios.VTIME] = 1, 0
            self._own, self._is_taken = own, True
            self._is_taken = _set(own)
            if self._is_taken and self._begin:
                os.write(STDOUT, self._begin)

    def _give_back(self) -> None:
        if self._is_taken and self._before is not None and is_ours():
            _set(self._before)
            if self._end:
                with contextlib.suppress(OSError):  # the terminal is gone
                    os.write(STDOUT, self._end)
        self._is_taken = False

    def _let_go(self, number: int, frame: FrameType | None) -> None:
        """Does what the signal does without us, with the terminal as it was before."""
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._let_go)  # we go on

    def _forget(self, number: int, frame: FrameType | None) -> None:
        """A shell has had the terminal meanwhile."""
        self._is_taken = False


def _set(settings: list[Any]) -> bool:
    """Whether it could be done; not where we are in the background since: a handler makes it fail
    instead of stopping us.
    """
    before = signal.signal(signal.SIGTTOU, lambda number, frame: None)
    try:
        termios.tcsetattr(STDIN, termios.TCSANOW, settings)
        return True
    except termios.error:
        return False
    finally:
        signal.signal(signal.SIGTTOU, before)
