# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirt's API description does not say, or says in prose only: tables by function name, each
entry with its reason.

Checked against the API descriptions of 9.0.0, 11.3.0 and 12.8.0 and the sources of 11.3.0.
"""

from __future__ import annotations

import fnmatch

# Bookkeeping that neither asks nor changes anything about a host or a guest; half of all calls of a
# typical program.
PLUMBING = (
    "vir*Ref",  # count references
    "vir*Free",  # drop one, or free what a call returned
    "vir*LastError*",  # read, copy and reset the thread's or the connection's error
    "virResetError",
    "virFreeError",
    "virSetErrorFunc",
    "virConnSetErrorFunc",
    "virDefaultErrorFunc",
    "virTypedParams*",  # build and read parameter lists in memory
    "virEvent*",  # the program's event loop
    "virInitialize",
    "virGetVersion",  # of the library file itself
)

# Where "refuses a read-only connection" (api_access.tsv, needs_write) is not the whole answer.
ACCESS = {
    # libvirt checks a write permission (acl), but forgot to refuse read-only connections in the
    # client
    "virDomainDelThrottleGroup": "write",
    "virDomainSetLaunchSecurityState": "write",
    "virDomainSetLifecycleAction": "write",
    "virDomainSetPerfEvents": "write",
    # runs guest agent commands, like virDomainGetTime and others that are refused
    "virDomainGetGuestInfo": "write",
    "virConnectSetIdentity": "write",  # changes for whom the daemon does everything that follows
    "virDomainCreateLinux": "write",  # the old name of virDomainCreateXML, which does the refusing
    # a stream that moves data is opened by a write call only; these move data into a volume or
    # console, or end the transfer, and virStreamFinish is where an upload reports its failure
    "virStreamSend": "write",
    "virStreamSendAll": "write",
    "virStreamSendHole": "write",
    "virStreamSparseSendAll": "write",
    "virStreamFinish": "write",
    "virStreamAbort": "write",
    # no connection that could refuse: the calling process enters a container and acts in it from
    # then on
    "virDomainLxcEnterCGroup": "write",
    "virDomainLxcEnterNamespace": "write",
    "virDomainLxcEnterSecurityLabel": "write",
    # their permission is domain:migrate, but they only read a limit
    "virDomainMigrateGetCompressionCache": "read",
    "virDomainMigrateGetMaxDowntime": "read",
    # need a writable connection with these flags only: see WRITE_WHEN
    "virDomainCheckpointGetXMLDesc": "conditional",
    "virDomainGetXMLDesc": "conditional",
    "virDomainManagedSaveGetXMLDesc": "conditional",
    "virDomainSnapshotGetXMLDesc": "conditional",
}

# What makes a call of a conditional function a write: argument, "any bit" or "equals", constants.
WRITE_WHEN = {
    # asks the guest agent
    "virDomainGetVcpusFlags": ("flags", "any bit", ("VIR_DOMAIN_VCPU_GUEST",)),
    # likewise
    "virDomainInterfaceAddresses": (
        "source",
        "equals",
        ("VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT",),
    ),
    # passwords are included; libvirt refuses that to read-only connections (for a migratable
    # document, since CVE-2014-7823)
    "virDomainCheckpointGetXMLDesc": ("flags", "any bit", ("VIR_DOMAIN_CHECKPOINT_XML_SECURE",)),
    "virDomainGetXMLDesc": (
        "flags",
        "any bit",
        ("VIR_DOMAIN_XML_SECURE", "VIR_DOMAIN_XML_MIGRATABLE"),
    ),
    "virDomainManagedSaveGetXMLDesc": ("flags", "any bit", ("VIR_DOMAIN_SAVE_IMAGE_XML_SECURE",)),
    "virDomainSnapshotGetXMLDesc": ("flags", "any bit", ("VIR_DOMAIN_SNAPSHOT_XML_SECURE",)),
}

# Where "negative" for an int, "null" for a pointer and the text's "0 in case of error" for an
# unsigned number are wrong.
FAILURE = {
    "virDomainGetID": "minus_one_if_error",  # (unsigned) -1 is also the id of an inactive domain
    "virNodeDeviceGetParent": "null_if_error",  # NULL is also the parent of the topmost device
    # -1 without an error: there is no event loop; libvirt itself asks in every connection
    **dict.fromkeys(
        (
            "virEventAddHandle",
            "virEventAddTimeout",
            "virEventRemoveHandle",
            "virEventRemoveTimeout",
        ),
        "minus_one_if_error",
    ),
    "virStreamRecv": "minus_one",  # -2: nothing there yet
    "virStreamRecvFlags": "minus_one",  # -2: nothing there yet, -3: a hole
    "virStreamSend": "minus_one",  # -2: buffers are full
    # these tell about an error that another call raised: none is a good answer
    "virConnGetLastError": "none",
    "virGetLastError": "none",
    "virGetLastErrorCode": "none",
    "virGetLastErrorDomain": "none",
    "virGetLastErrorMessage": "none",
    "virTypedParamsGet": "none",  # NULL: not in the list; raises no error
}

# Secret arguments ("" is the result); function names are globs. Commands for the QEMU monitor and
# the guest agent, key presses and XML are not in here: an audit needs them. Passwords inside XML
# and URIs are found by their shape when decoding.
SECRET = {
    ("virDomainSetUserPassword", "password"): "a guest's password",
    ("virSecretSetValue", "value"): "key or passphrase of a disk or of storage",
    ("virSecretGetValue", ""): "the same, read",
    ("virDomainAuthorizedSSHKeysSet", "keys"): "who can log in to a guest",
    ("virDomainAuthorizedSSHKeysGet", "keys"): "the same, read",
    ("virConnectOpenAuth", "auth"): "the way to the user's credentials",
    ("virDomainSetLaunchSecurityState", "params"): (
        "sev-secret and its header, for the guest's memory"
    ),
    ("virTypedParamsAddString", "value"): (
        "may be sev-secret; what is no secret is shown by the call that takes the list"
    ),
    ("virTypedParamsAddStringList", "values"): "likewise",
    ("virTypedParamsAddFromString", "value"): "likewise",
    ("virTypedParams*", "params"): "likewise: the whole list",
    ("virDomainMemoryPeek", "buffer"): "a guest's memory",
    ("virDomainBlockPeek", "buffer"): "a guest's disk",
    ("virStreamSend", "data"): "what is typed at a console, or a disk's contents",
    ("virStreamRecv*", "data"): "a console's output, or a disk's contents",
}

# Enums of arguments ("" is the result) whose text names none, or one that does not fit; True:
# flags. "A-NAME" is enum A without the constant NAME, which has the same value as the right one and
# belongs to other functions.
ENUM = {
    ("virInterfaceGetXMLDesc", "flags"): ("virInterfaceXMLFlags", True),
    ("virStreamEventAddCallback", "events"): ("virStreamEventType", True),
    ("virStreamEventUpdateCallback", "events"): ("virStreamEventType", True),
    ("virConnectDomainEventRegisterAny", "eventID"): ("virDomainEventID", False),
    ("virConnectNetworkEventRegisterAny", "eventID"): ("virNetworkEventID", False),
    ("virConnectNodeDeviceEventRegisterAny", "eventID"): ("virNodeDeviceEventID", False),
    ("virConnectSecretEventRegisterAny", "eventID"): ("virSecretEventID", False),
    ("virConnectStoragePoolEventRegisterAny", "eventID"): ("virStoragePoolEventID", False),
    ("virNodeSuspendForDuration", "target"): ("virNodeSuspendTarget", False),
    ("virSecretLookupByUsage", "usageType"): ("virSecretUsageType", False),
    ("virTypedParamsAddFromString", "type"): ("virTypedParameterType", False),
    ("virConnectCompareCPU", ""): ("virCPUCompareResult", False),
    ("virConnectCompareHypervisorCPU", ""): ("virCPUCompareResult", False),
    ("virSecretGetUsageType", ""): ("virSecretUsageType", False),
    ("virCopyLastError", ""): ("virErrorNumber", False),
    ("virConnCopyLastError", ""): ("virErrorNumber", False),
    ("virGetLastErrorCode", ""): ("virErrorNumber", False),
    ("virGetLastErrorDomain", ""): ("virErrorDomain", False),
    # since 12.x names of its own, for the same bits
    ("virDomainSetVcpu", "flags"): ("virDomainModificationImpact|virDomainSetVcpuFlags", True),
    ("virDomainListAllCheckpoints", "flags"): (
        "virDomainCheckpointListFlags-VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS",
        True,
    ),
    ("virDomainCheckpointListAllChildren", "flags"): (
        "virDomainCheckpointListFlags-VIR_DOMAIN_CHECKPOINT_LIST_ROOTS",
        True,
    ),
    ("virDomainListAllSnapshots", "flags"): (
        "virDomainSnapshotListFlags-VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS",
        True,
    ),
    ("virDomainSnapshotNum", "flags"): (
        "virDomainSnapshotListFlags-VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS",
        True,
    ),
    ("virDomainSnapshotListNames", "flags"): (
        "virDomainSnapshotListFlags-VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS",
        True,
    ),
    ("virDomainSnapshotListAllChildren", "flags"): (
        "virDomainSnapshotListFlags-VIR_DOMAIN_SNAPSHOT_LIST_ROOTS",
        True,
    ),
    ("virDomainSnapshotNumChildren", "flags"): (
        "virDomainSnapshotListFlags-VIR_DOMAIN_SNAPSHOT_LIST_ROOTS",
        True,
    ),
    ("virDomainSnapshotListChildrenNames", "flags"): (
        "virDomainSnapshotListFlags-VIR_DOMAIN_SNAPSHOT_LIST_ROOTS",
        True,
    ),
}

# The same for struct fields; None: mostly a plain number.
FIELD_ENUM = {
    "virDomainJobInfo.type": "virDomainJobType",
    "virDomainMemoryStatStruct.tag": "virDomainMemoryStatTags",
    "virError.domain": "virErrorDomain",
    "virError.level": "virErrorLevel",
    "virVcpuInfo.cpu": None,  # a CPU's number; only those below 0 have a name
}

# What typed parameters of this name hold; names are globs.
PARAMETER_ENUM = {
    "state.state": "virDomainState",
    "vcpu.*.state": "virVcpuState",
    "numa_mode": "virDomainNumatuneMemMode",
    "operation": "virDomainJobOperation",
    "dirtyrate.calc_status": "virDomainDirtyRateStatus",
}

# A state -> the enum of its reasons.
REASON_ENUM = {
    0: "virDomainNostateReason",
    1: "virDomainRunningReason",
    2: "virDomainBlockedReason",
    3: "virDomainPausedReason",
    4: "virDomainShutdownReason",
    5: "virDomainShutoffReason",
    6: "virDomainCrashedReason",
    7: "virDomainPMSuspendedReason",
}

# Arguments whose C type misleads.
KIND = {
    ("virStreamSend", "data"): "pointer",  # const char *, but counted bytes without a NUL
}


def is_plumbing(name: str) -> bool:
    """Whether a function of this name is bookkeeping; the name is enough, so this holds for
    functions yet to come.
    """
    return any(fnmatch.fnmatchcase(name, glob) for glob in PLUMBING)


def is_secret(function: str, argument: str) -> bool:
    """Whether this argument ("": the result) must not be shown."""
    return any(
        argument == secret and fnmatch.fnmatchcase(function, glob) for glob, secret in SECRET
    )
