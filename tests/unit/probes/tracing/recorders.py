# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands for parts of a session: keeps what is told to them, in the order in which it was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Told = list[tuple[object, ...]]


class Recorder:
    """Any object; `answers`: what its methods return, None if not named here."""

    def __init__(
        self, name: str, told: Told, answers: Mapping[str, Callable[..., object]] | None = None
    ) -> None:
        self._name, self._told, self._answers = name, told, answers or {}

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: object) -> object:
            self._told.append((f"{self._name}.{method}", *arguments))
            return self._answers[method](*arguments) if method in self._answers else None

        return call
