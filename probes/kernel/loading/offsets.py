# SPDX-License-Identifier: LGPL-2.1-or-later
"""Offsets of the kernel's struct members that the BPF programs read: defines for the compiler
come out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

from log.errors import TraceError
from probes.kernel.loading import btf, kept

# each is the sum of these members' offsets
MEMBERS: dict[str, tuple[tuple[str, str], ...]] = {
    "TASK_PID": (("task_struct", "pid"),),
    "TASK_TGID": (("task_struct", "tgid"),),
    "TASK_COMM": (("task_struct", "comm"),),
    "TASK_REAL_PARENT": (("task_struct", "real_parent"),),
    "TASK_GROUP_LEADER": (("task_struct", "group_leader"),),
    "TASK_START_BOOTTIME": (("task_struct", "start_boottime"),),
    "TASK_LOGINUID": (("task_struct", "loginuid"),),
    "TASK_MM": (("task_struct", "mm"),),
    "TASK_CRED": (("task_struct", "cred"),),
    "TASK_REAL_CRED": (("task_struct", "real_cred"),),
    "TASK_EXEC_ID": (("task_struct", "self_exec_id"),),
    "TASK_SIGNAL_STRUCT": (("task_struct", "signal"),),
    "TASK_SECCOMP": (("task_struct", "seccomp"), ("seccomp", "mode")),
    "TASK_SIGHAND": (("task_struct", "sighand"),),
    "TASK_THREAD_PID": (("task_struct", "thread_pid"),),
    "PID_LEVEL": (("pid", "level"),),
    "PID_NUMBERS": (("pid", "numbers"),),
    "UPID_NR": (("upid", "nr"),),
    "UPID_NS": (("upid", "ns"),),
    "PID_NS_INUM": (("pid_namespace", "ns"), ("ns_common", "inum")),
    "SIGNAL_LIVE": (("signal_struct", "live"),),
    "SIGHAND_ACTION": (("sighand_struct", "action"),),
    "SIGINFO_CODE": (("kernel_siginfo", "si_code"),),
    "CRED_UID": (("cred", "uid"),),
    "CRED_EUID": (("cred", "euid"),),
    "CRED_EGID": (("cred", "egid"),),
    "CRED_USER_NS": (("cred", "user_ns"),),
    "USER_NS_LEVEL": (("user_namespace", "level"),),
    "MM_ARG_START": (("mm_struct", "arg_start"),),
    "MM_ARG_END": (("mm_struct", "arg_end"),),
    "MM_EXE_FILE": (("mm_struct", "exe_file"),),
    "MM_EXEC_VM": (("mm_struct", "exec_vm"),),
    "MM_XOL_AREA": (("mm_struct", "uprobes_state"), ("uprobes_state", "xol_area")),
    "XOL_VADDR": (("xol_area", "vaddr"),),
    "FILE_MOUNT": (("file", "f_path"), ("path", "mnt")),
    "FILE_DENTRY": (("file", "f_path"), ("path", "dentry")),
    "FILE_INODE": (("file", "f_inode"),),
    "INODE_NUMBER": (("inode", "i_ino"),),
    "INODE_SB": (("inode", "i_sb"),),
    "SB_DEVICE": (("super_block", "s_dev"),),
    "DENTRY_PARENT": (("dentry", "d_parent"),),
    "DENTRY_NAME": (("dentry", "d_name"), ("qstr", "name")),
    "DENTRY_HASHED": (("dentry", "d_hash"), ("hlist_bl_node", "pprev")),
    "MOUNT_VFS": (("mount", "mnt"),),
    "MOUNT_ROOT": (("mount", "mnt"), ("vfsmount", "mnt_root")),
    "MOUNT_PARENT": (("mount", "mnt_parent"),),
    "MOUNT_POINT": (("mount", "mnt_mountpoint"),),
}
# where sessions are: the return probes of a thread
ARMED: dict[str, tuple[tuple[str, str], ...]] = {
    "TASK_UTASK": (("task_struct", "utask"),),
    "UTASK_RETURNS": (("uprobe_task", "return_instances"),),
    "RETURN_STACK": (("return_instance", "stack"),),
    "RETURN_NEXT": (("return_instance", "next"),),
    "RETURN_ADDRESS": (("return_instance", "orig_ret_vaddr"),),
}
OPTIONAL = ("TASK_LOGINUID", "TASK_SECCOMP")  # not in a kernel without auditing, or seccomp


def has(members: Mapping[str, tuple[tuple[str, str], ...]]) -> bool:
    """Whether the running kernel has them all."""
    try:
        defines(members)
    except TraceError:
        return False
    return True


def defines(members: Mapping[str, tuple[tuple[str, str], ...]] = MEMBERS) -> dict[str, int]:
    """Names and values, for the running kernel; TraceError where it lacks one that is needed."""
    found, values = of_this_kernel(), dict[str, int]()
    for name, path in members.items():
        missing = [at for at in path if at not in found]
        if not missing:
            values[name] = sum(found[at] for at in path)
        elif name not in OPTIONAL:
            struct, member = missing[0]
            raise TraceError(
                f"this kernel's {struct} has no {member}: Linux 5.15 or newer with "
                "uprobes is needed"
            )
    return values


@functools.cache
def of_this_kernel() -> dict[tuple[str, str], int]:
    """Offsets by struct and member: its types are many, and are gone through once for a kernel."""
    wanted: dict[str, tuple[str, ...]] = {}
    for struct, member in itertools.chain(*MEMBERS.values(), *ARMED.values()):
        wanted[struct] = (*wanted.get(struct, ()), member)
    key = kept.key_of_kernel(wanted)
    if known := kept.read(key):
        return {place_of(name): int.from_bytes(at, "little") for name, at in known.items()}
    found = btf.member_offsets(wanted)
    kept.write(key, {".".join(place): at.to_bytes(8, "little") for place, at in found.items()})
    return found


def place_of(name: str) -> tuple[str, str]:
    """Struct and member by the name that their offset is kept by."""
    struct, _, member = name.partition(".")
    return struct, member
