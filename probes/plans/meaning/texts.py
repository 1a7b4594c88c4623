# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the strings are that go through libvirt's functions: a function and an argument come in, a
kind of text goes out.

What is not in these tables is hidden: a function, field or struct of a newer libvirt may hold a
secret.
"""

from __future__ import annotations

import fnmatch
import functools
import re

NAME = "name"  # of an object, a file, a format: shown; URIs in it without what may be secret
URI = "uri"
XML = "xml"
COMMAND = "command"  # for QEMU's monitor or a guest's agent
ANSWER = "answer"  # of them
MESSAGE = "message"  # for people, from libvirt
MIXED = "mixed"  # a document, or text of which nothing is known
HIDDEN = "hidden"  # only its length is shown
KINDS = frozenset({NAME, URI, XML, COMMAND, ANSWER, MESSAGE, MIXED, HIDDEN})

# (functions, arguments; "": the result) -> kind; globs with blanks between; the first that fits
ARGUMENTS = (
    ("virConnectOpen virConnectOpenAuth virConnectOpenReadOnly", "name", URI),
    ("virConnectGetURI", "", URI),
    ("*", "uri dconnuri duri miguri uri_in uri_out", URI),
    ("virDomainQemu* virDomainLxc*", "cmd", COMMAND),
    ("virDomainQemu*", "result", ANSWER),
    ("virDomainQemuAgentCommand", "", ANSWER),
    # QEMU's command line, with all its secrets
    ("virConnectDomainXMLFromNative", "nativeConfig", HIDDEN),
    ("virConnectDomainXMLToNative", "", HIDDEN),
    ("vir*SetMetadata", "metadata", MIXED),
    ("vir*GetMetadata", "", MIXED),
    ("virDomainGetMessages", "msgs", MESSAGE),
    ("virGetLastErrorMessage", "", MESSAGE),
    # may be sev-secret; what is no secret is shown by the call that takes the list
    ("virTypedParams*", "value values", HIDDEN),
    ("*", "keys password", HIDDEN),
    ("*", "xmlCPUs cookieout cookiein xml xmlDesc xmldesc dxml destxml srcSpec domainXml backupXML "
          "checkpointXML xmlCPU", XML),
    ("virDomainMigrate*", "cookie xmlin dom_xml", XML),
    ("virDomainMigrateBegin3* *GetXMLDesc *XMLFromNative *Baseline* *Capabilities "
     "*FindStoragePoolSources", "", XML),
    ("virConnectGetSysinfo", "", XML),
    ("*", "name names new_name dname path portdev usageID user uuidstr uuids mac macstr wwnn wwpn "
          "alias group key event file", NAME),
    ("*", "disk dev dev_name device base top from to mountPoint mountpoints driverName emulator "
          "emulatorbin machine arch", NAME),
    ("*", "virttype type cap models nativeFormat cpumap vcpumap buf", NAME),
    ("*GetName *GetMACString *GetFilterName *GetPortDev *GetParent *GetUsageID *GetKey *GetPath "
     "*GetHostname", "", NAME),
    ("virDomainGetOSType virNetworkGetBridgeName", "", NAME),
    ("virConnectGetType virDomainGetSchedulerType virDomainScreenshot", "", NAME),
)  # fmt: skip

# fields of typed parameters, globs
PARAMETERS = (
    ("migrate_uri disks_uri graphics_uri", URI),
    ("destination_xml persistent_xml dxml", XML),
    ("destination_name listen_address migrate_disks migrate_disks_detect_zeroes compression "
     "tls.destination file image_format", NAME),
    ("group_name numa_nodeset device_weight device_read_* device_write_* vcpus online "
     "offlinable", NAME),
    ("user-name group-name sasl-user-name x509-distinguished-name selinux-context", NAME),
    ("user_name group_name sasl_user_name tls_x509_dname selinux_context unix_user_name "
     "unix_group_name sock_addr", NAME),
    ("net.*.name block.*.name block.*.path iothread.* vcpu.* cpu.* perf.* memory.* dirtyrate.* "
     "cputune.* blkdeviotune.*", NAME),
    ("hostname os.* timezone.name user.*.name user.*.domain", NAME),
    ("fs.*.name fs.*.mountpoint fs.*.fstype fs.*.disk.*.alias fs.*.disk.*.serial "
     "fs.*.disk.*.device", NAME),
    ("disk.*.name disk.*.alias disk.*.guest_alias disk.*.guest_bus disk.*.serial disk.*.device "
     "disk.*.dependency.*.name", NAME),
    ("if.*.name if.*.hwaddr if.*.addr.*.addr if.*.addr.*.type", NAME),
    ("device.*.driverName device.*.driverVersion device.*.idType", NAME),
    ("errmsg", MESSAGE),
)  # fmt: skip

# structs' fields, globs
FIELDS = (
    ("virDomainDiskError.disk virDomainFSInfo.* virDomainIPAddress.addr virDomainInterface.* "
     "virNetworkDHCPLease.*", NAME),
    ("virNodeInfo.model virSecurityLabel.label virSecurityModel.model virSecurityModel.doi", NAME),
    ("vir*Parameter.field virNodeCPUStats.field virNodeMemoryStats.field", NAME),
)  # fmt: skip


def _fits(globs: str, text: str) -> bool:
    return _pattern(globs).match(text) is not None


@functools.cache
def _pattern(globs: str) -> re.Pattern[str]:
    """Each start asks for some ten thousands."""
    return re.compile("|".join(map(fnmatch.translate, globs.split(" "))))


def of_argument(function: str, argument: str) -> str:
    """What the argument is ("": the result)."""
    return next((kind for globs, kind in _arguments_of(function) if _fits(globs, argument)), HIDDEN)


@functools.lru_cache(maxsize=8)  # a function's arguments are asked for one after the other
def _arguments_of(function: str) -> list[tuple[str, str]]:
    return [
        (arguments, kind) for functions, arguments, kind in ARGUMENTS if _fits(functions, function)
    ]


@functools.lru_cache(maxsize=4096)
def of_parameter(field: str) -> str:
    """What the typed parameter of this name is, if it is a string."""
    return next((kind for globs, kind in PARAMETERS if _fits(globs, field)), HIDDEN)


def of_field(struct: str, field: str) -> str:
    """What the field of a struct is, if it is a string."""
    return next((kind for globs, kind in FIELDS if _fits(globs, f"{struct}.{field}")), HIDDEN)
