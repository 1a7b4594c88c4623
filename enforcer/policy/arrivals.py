# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client's calls are in a daemon: the functions that a rule names come in, with those that
they arrive as they go out.

Most arrive as themselves. A migration arrives as its steps, one of which makes a guest of whatever
the client has sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from probes.api.undescribed import NAMES

MIGRATIONS = frozenset(
    {
        "virDomainMigrate", "virDomainMigrate2", "virDomainMigrate3", "virDomainMigrateToURI",
        "virDomainMigrateToURI2", "virDomainMigrateToURI3",
    }
)  # fmt: skip
STEPS = frozenset(name for name in NAMES if name.startswith("virDomainMigrate"))
INCOMING = frozenset(name for name in STEPS if name.startswith("virDomainMigratePrepare"))
# function -> those whose rules are its rules, too
STANDS_FOR: dict[str, frozenset[str]] = {
    **dict.fromkeys(STEPS, MIGRATIONS),
    "virConnectSetIdentityEnsureACL": frozenset({"virConnectSetIdentity"}),
    # its old name, from which libvirt jumps there
    "virDomainCreateLinux": frozenset({"virDomainCreateXML"}),
}
# what an incoming migration does besides: it starts a guest, and defines it if it is to stay
CREATING = frozenset({"virDomainCreateXML", "virDomainCreateXMLWithFiles"})
DEFINING = frozenset({"virDomainDefineXML", "virDomainDefineXMLFlags"})

_STREAMS = (
    "what goes through a stream is moved by the daemon itself; deny what begins it, such as "
    "virStorageVolUpload"
)
# public functions that no client's call arrives in a daemon as -> what it arrives as, if it does at
# all
CLIENT_ONLY: dict[str, str] = {
    **dict.fromkeys(
        ("virConnectOpen", "virConnectOpenReadOnly"),
        "a daemon calls virConnectOpenAuth, with VIR_CONNECT_RO in its flags",
    ),
    **dict.fromkeys(MIGRATIONS, "it arrives as its steps, which this rule covers, too"),
    "virDomainCreateLinux": "it arrives as virDomainCreateXML, which no rule on it covers",
    "virConnectDomainEventRegister": "it arrives as virConnectDomainEventRegisterAny",
    "virConnectDomainEventDeregister": "it arrives as virConnectDomainEventDeregisterAny",
    **dict.fromkeys(
        (
            "virDomainLookupByUUIDString", "virNWFilterLookupByUUIDString",
            "virNetworkLookupByUUIDString", "virNetworkPortLookupByUUIDString",
            "virSecretLookupByUUIDString", "virStoragePoolLookupByUUIDString",
        ),
        "it arrives as the function of that name without String",
    ),
    **dict.fromkeys(
        (
            "virStreamRecvAll", "virStreamRecvFlags", "virStreamRecvHole", "virStreamSendAll",
            "virStreamSparseRecvAll", "virStreamSparseSendAll",
        ),
        _STREAMS,
    ),
    **dict.fromkeys(
        ("virConnectIsAlive", "virConnectIsEncrypted", "virConnectSetKeepAlive"),
        "clients answer it themselves",
    ),
    **dict.fromkeys(
        (
            "virDomainCheckpointGetConnect", "virDomainCheckpointGetDomain",
            "virDomainCheckpointGetName", "virDomainGetConnect", "virDomainGetID",
            "virDomainGetName", "virDomainGetUUID", "virDomainGetUUIDString",
            "virDomainSnapshotGetConnect", "virDomainSnapshotGetDomain", "virDomainSnapshotGetName",
            "virInterfaceGetConnect", "virInterfaceGetMACString", "virInterfaceGetName",
            "virNWFilterBindingGetFilterName", "virNWFilterBindingGetPortDev", "virNWFilterGetName",
            "virNWFilterGetUUID", "virNWFilterGetUUIDString", "virNetworkGetConnect",
            "virNetworkGetName", "virNetworkGetUUID", "virNetworkGetUUIDString",
            "virNetworkPortGetNetwork", "virNetworkPortGetUUID", "virNetworkPortGetUUIDString",
            "virNodeDeviceGetName", "virSecretGetConnect", "virSecretGetUUID",
            "virSecretGetUUIDString", "virSecretGetUsageID", "virSecretGetUsageType",
            "virStoragePoolGetConnect", "virStoragePoolGetName", "virStoragePoolGetUUID",
            "virStoragePoolGetUUIDString", "virStorageVolGetConnect", "virStorageVolGetKey",
            "virStorageVolGetName",
        ),
        "it only reads a handle",
    ),
}  # fmt: skip

# what a daemon calls for its client, but in a thread that does so for all of them
IN_ITS_LOOP: dict[str, str] = dict.fromkeys(
    (
        "virStreamAbort", "virStreamEventAddCallback", "virStreamEventRemoveCallback",
        "virStreamEventUpdateCallback", "virStreamFinish", "virStreamRecv", "virStreamSend",
        "virStreamSendHole",
    ),
    _STREAMS,
)  # fmt: skip
CANT_BIND = {**CLIENT_ONLY, **IN_ITS_LOOP}

# what libvirt's daemons import of it that is not public, and why there is no stub: glob -> reason
NOT_JUDGED: dict[str, str] = {
    "*CheckACL": "asks libvirt's own access control; the public function that it guards is judged",
    "xdr_*": "reads and writes messages",
    "remoteProbe*": "the proxy looks which daemons there are",
    "virNet*": "moves messages; the daemon's own connections, limits and threads",
    "virConnectSupportsFeature": "asks what the driver can do, and changes nothing",
    "virStreamInData": "asks what comes next in a stream, whose begin was judged",
    "virGet[CDINS]*": "makes a handle of what came in a message",
    "virGet*ID": "asks the host's users",
    "virGetUser*": "asks where the daemon's files are",
    "virIdentity*": "the identities that are judged",
    "virState*": "the daemon starts and stops its drivers",
    "virDriverLoadModule": "the daemon loads its drivers",
    "virAccessManager*": "the daemon's own settings",
    "virConf*": "the daemon's own settings",
    "virLog*": "the daemon's own log; set over the admin socket, which is root's",
    "virAudit*": "the daemon's own log",
    "virDaemon*": "the daemon starts",
    "virHook*": "the daemon tells its hook that it starts and stops",
    "virSystemd*": "the daemon and the host's service manager",
    "virPidFile*": "the daemon's own file",
    "virHostBootTimeInit": "the daemon starts",
    "virSetHostUUIDStr": "the daemon's own settings",
    "virUpdateSelfLastChanged": "the daemon starts",
    "virPolkitCheckAuth": "asks whether the client may connect",
    "virGDBus*": "the daemon listens to the host",
    "virNetlink*": "the daemon listens to the host",
    "virSetErrorLogPriorityFunc": "errors",
    "virErrorPreserveLast": "errors",
    "virErrorRestore": "errors",
    "virDispatchError": "errors",
    "virRaiseErrorFull": "errors",
    "virReport*": "errors",
    "virTypedParam*": "parameters in memory",
    **dict.fromkeys(
        (
            "safewrite", "virAppendElement", "virDeleteElementsN", "virEnum*", "virFile*",
            "virGettextInitialize", "virJSON*", "virLockGuard*", "virMutex*", "virObject*",
            "virShrinkN", "virStrToLong*", "virThread*",
        ),
        "a helper that knows nothing of clients",
    ),
}  # fmt: skip


def arrive_as(chosen: Set[str], left_out: Set[str] = frozenset(), *, forbids: bool) -> Set[str]:
    """The functions of a rule and those that their calls arrive as.

    `left_out`: those that it names as not its own. `forbids`: it doesn't allow.
    """
    found = {name for name, names in STANDS_FOR.items() if names & chosen}
    if forbids and chosen & (CREATING | DEFINING):
        found |= INCOMING
    return (chosen | found) - {name for name, names in STANDS_FOR.items() if names <= left_out}


def only_where_it_stays(name: str, chosen: Iterable[str]) -> bool:
    """Whether a rule on these functions is about that incoming migration only because the guest
    is defined in the end.
    """
    functions = set(chosen)
    return (
        name in INCOMING and not functions & (CREATING | MIGRATIONS) and bool(functions & DEFINING)
    )
