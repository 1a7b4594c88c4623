# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machines that programs can be traced on, a file for each: numbers, registers, machine code.
probes/kernel/abi.py chooses the one that this is.
"""
