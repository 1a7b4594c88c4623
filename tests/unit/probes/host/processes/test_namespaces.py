# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes by the number that their pid namespace has for them."""

from probes.host.processes.namespaces import FIRST, InNamespaces

POD, OTHER = 4026532100, 4026532200
SECOND = 1_000_000_000


def test_a_process_is_found_by_what_its_namespace_calls_it():
    numbers = InNamespaces()
    numbers.note(4000, POD, 7, SECOND)  # a daemon
    numbers.note(4001, POD, 30, 2 * SECOND)
    numbers.note(5001, OTHER, 30, 2 * SECOND)
    assert numbers.find(30, 4000, None) == numbers.find(30, 4000, 2 * SECOND) == 4001
    assert numbers.find(31, 4000, None) is None
    # another had the number before, and has it again
    assert numbers.find(30, 4000, 3 * SECOND) is None
    numbers.note(4002, POD, 30, 3 * SECOND)
    assert numbers.find(30, 4000, 3 * SECOND) == 4002
    # who asks is in no namespace that is known
    assert numbers.find(30, 9, None) is None


def test_the_host_needs_no_translation():
    numbers = InNamespaces()
    for namespace in (0, FIRST):
        numbers.note(4000, namespace, 4000, SECOND)
    assert numbers.find(4000, 4000, None) is None
