# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run as a program: calls every method of libvirt-python's classes on the test driver, each with
objects of its own.

Prints a line for each C function that was called on the way: its name, what Python passed and what
it got, as JSON.
"""

import inspect
import json
import os
import sys
import tempfile

import libvirt

libvirtmod = libvirt.libvirtmod


NODE = """
<node>
  <domain type='test'><name>web1</name><memory>65536</memory><vcpu>2</vcpu><os><type>hvm</type></os>
    <devices><disk type='file' device='disk'><source file='/a'/><target dev='vda'/></disk>
      <interface type='network'><mac address='52:54:00:00:00:01'/><source network='net1'/>
       <target dev='nic0'/></interface></devices>
  </domain>
  <network><name>net1</name><bridge name='br7'/>
    <ip address='10.1.2.1' netmask='255.255.255.0'><dhcp><range start='10.1.2.2' end='10.1.2.9'/>
     </dhcp></ip></network>
  <interface type='ethernet' name='eth7'><start mode='onboot'/><mac address='52:54:00:00:00:09'/>
   </interface>
  <pool type='dir'><name>pool1</name><target><path>/pool1</path></target></pool>
  <device><name>computer1</name><capability type='system'><hardware><vendor>x</vendor>
    <version>1</version><serial>2</serial><uuid>0e4f3d1e-0000-0000-0000-000000000001</uuid></hardware>
    <firmware><vendor>y</vendor><version>1</version><release_date>2020</release_date></firmware></capability></device>
</node>
"""
DOMAIN = (
    "<domain type='test'><name>db1</name><memory>4096</memory><os><type>hvm</type></os></domain>"
)
DISK = "<disk type='file' device='disk'><source file='/b'/><target dev='vdb'/></disk>"
# by what a method's name has in it, the first that fits
XML = {
    "network": "<network><name>net2</name><forward mode='nat'/></network>",
    "interface": "<interface type='ethernet' name='eth8'><start mode='onboot'/></interface>",
    "storagePool": "<pool type='dir'><name>pool2</name><target><path>/pool2</path></target></pool>",
    "storageVol": "<volume><name>vol2</name><capacity>1048576</capacity></volume>",
    "createXML": "<volume><name>vol2</name><capacity>1048576</capacity></volume>",
    "snapshot": "<domainsnapshot><name>snap2</name></domainsnapshot>",
    "checkpoint": (
        "<domaincheckpoint><name>check2</name><disks><disk name='vda'/></disks></domaincheckpoint>"
    ),
    "nodeDevice": "<device><parent>scsi_host1</parent><capability type='scsi_host'/></device>",
    "device": DISK,
    "define": DOMAIN,
    "create": DOMAIN,
}
FOLDER = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
SAVED = f"{FOLDER.name}/saved"  # libvirt's test driver does write there
PARAMS = {
    "setBlkioParameters": {"weight": 500},
    "setMemoryParameters": {"hard_limit": 1 << 20},
    "setNumaParameters": {"numa_nodeset": "0-1"},
    "setInterfaceParameters": {"inbound.average": 100},
    "setBlockIoTune": {"total_bytes_sec": 1 << 33, "group_name": "slow"},
    "setSchedulerParameters": {"weight": 17},
    "setIOThreadParams": {"poll_max_ns": 5},
    "blockCopy": {"bandwidth": 1 << 34, "granularity": 4096},
    "migrate3": {"migrate_uri": "tcp://10.0.0.1", "bandwidth": 1 << 35},
    "migrateToURI3": {
        "destination_name": "other",
        "bandwidth": 1 << 35,
        "migrate_disks": ["vda", "vdb"],
    },
    "restoreParams": {"file": SAVED},
    "saveParams": {"file": SAVED},
    "setLaunchSecurityState": {"sev-secret": "abc"},
    "setIdentity": {"user-name": "fred", "unix-user-id": 1 << 40},
    "setPerfEvents": {"cmt": True},
}
NAMES = {
    "networkLookupByName": "net1",
    "interfaceLookupByName": "eth7",
    "storagePoolLookupByName": "pool1",
    "storageVolLookupByName": "vol1",
    "nodeDeviceLookupByName": "computer1",
    "snapshotLookupByName": "snap1",
    "interfaceStats": "nic0",
}
# what a parameter of this name gets; "" in front of a dot: of any method
VALUES = {
    "name": "web1",
    "flags": 0,
    "uuidstr": "0e4f3d1e-0000-0000-0000-00000000abcd",
    "uuid": bytes(range(16)),
    "disk": "vda",
    "path": "vda",
    "dev": "vda",
    "device": "nic0",
    "params": {"weight": 17, "speed": 1 << 40},
    "id": 1,
    "memory": 4096,
    "nvcpus": 1,
    "size": 64,
    "offset": 1 << 33,
    "start": 0,
    "cpumap": (True, False, True),
    "mountPoints": ["/"],
    "mountpoints": ["/"],
    "keycodes": [30, 48, 46],
    "nkeycodes": 3,
    "pages": [4, 2048],
    "xmlCPUs": ["<cpu><arch>x86_64</arch><model>qemu64</model></cpu>"],
    "keys": ["ssh-ed25519 AAAA key1"],
    "user": "root",
    "password": "swordfish",
    "uri": "tcp://10.0.0.2",
    "duri": "nowhere:///x",
    "dconnuri": "nowhere:///x",
    "metadata": "<a/>",
    "key": "k",
    "type": 1,
    "value": b"s3cret",
    "bandwidth": 10,
    "duration": 30,
    "interval": 5,
    "count": 6,
    "doms": None,
    "time": {"seconds": 7, "nseconds": 5},
    "domain": None,
    "conn": None,
    "files": [],
    "start_cpu": 0,
    "cellno": 0,
    "maxCells": 2,
    "cellCount": 2,
}
# these end the process, wait, or need another thread
UNFIT = {
    "ref",
    "c_pointer",
    "virConnGetLastError",
    "virConnResetLastError",
    "setKeepAlive",
    "suspendForDuration",
    "recvAll",
    "sendAll",
}
UNFIT |= {
    "sparseRecvAll",
    "sparseSendAll",
    "nodeSuspendForDuration",
    "close",
    "connect",
    "domain",
    "getConnect",
    "sendHole",
}
PLUMBING = (
    "Free",
    "Ref",
    "LastError",
    "virEvent",
    "virInitialize",
    "virGetVersion",
    "virSetErrorFunc",
    "virRegisterErrorHandler",
)

out = os.fdopen(os.dup(1), "w")


def plain(value):
    """JSON of what Python passed or got; an object of libvirt is {}, bytes are their
    hexadecimal form in {"bytes"}.
    """
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.hex()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {"items": [[plain(key), plain(item)] for key, item in value.items()]}
    return {}


def wrap(name, function):
    def call(*args):
        before = plain(args)
        result = function(*args)
        out.write(json.dumps([name, before, plain(result)]) + "\n")
        return result

    return call


def wrap_all():
    for name in dir(libvirtmod):
        function = getattr(libvirtmod, name)
        if (
            name.startswith("vir")
            and callable(function)
            and not any(word in name for word in PLUMBING)
        ):
            setattr(libvirtmod, name, wrap(name, function))


def argument(method, parameter, owner):
    name = parameter.name
    if "xml" in name.lower() and name != "xmlCPUs":
        lowered = method.lower()
        return next(
            (xml for word, xml in XML.items() if word.lower() in lowered),
            DISK if type(owner).__name__ == "virDomain" else DOMAIN,
        )
    if name in ("to", "file", "filename"):
        return SAVED
    if name == "params" and method in PARAMS:
        return PARAMS[method]
    if method in NAMES and name in ("name", "path"):
        return NAMES[method]
    if name == "dconn":
        return libvirt.open("test:///default")
    if name == "stream":
        return libvirt.open("test:///default").newStream()
    if method == "allocPages" and name == "pages":
        return {2048: 3}
    if name in VALUES:
        return VALUES[name]
    return (
        0
        if parameter.default is inspect.Parameter.empty or parameter.default == 0
        else parameter.default
    )


def objects(uri):
    """Fresh ones: class name -> object."""
    conn = libvirt.open(uri)
    domain = conn.lookupByName("web1")
    pool = conn.storagePoolLookupByName("pool1")
    return {
        "virConnect": conn,
        "virDomain": domain,
        "virNetwork": conn.networkLookupByName("net1"),
        "virInterface": conn.interfaceLookupByName("eth7"),
        "virStoragePool": pool,
        "virStorageVol": pool.createXML(XML["storageVol"].replace("vol2", "vol1"), 0),
        "virNodeDevice": conn.nodeDeviceLookupByName("computer1"),
        "virDomainSnapshot": domain.snapshotCreateXML(
            "<domainsnapshot><name>snap1</name></domainsnapshot>", 0
        ),
    }


def special(kind, method):
    """Calls whose arguments depend on each other."""
    conn = libvirt.open("test:///default")
    domain = conn.lookupByName("test")
    if (kind, method) == ("virDomain", "setSchedulerParameters"):
        domain.setSchedulerParameters({"weight": 23})
    elif (kind, method) == ("virConnect", "domainListGetStats"):
        conn.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_STATE, 0)


def main():
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as node:
        node.write(NODE)
        node.flush()
        uri = f"test://{node.name}"
        libvirt.registerErrorHandler(lambda context, error: None, None)
        wrap_all()
        for kind in objects(uri):
            for method in sorted(dir(getattr(libvirt, kind))):
                if (
                    method.startswith("_")
                    or method in UNFIT
                    or "Event" in method
                    or "Callback" in method
                ):
                    continue
                owner = objects(uri)[kind]
                function = getattr(owner, method)
                try:
                    parameters = list(inspect.signature(function).parameters.values())
                    function(
                        *(
                            argument(method, parameter, owner)
                            for parameter in parameters
                            if parameter.kind < 2
                        )
                    )
                    special(kind, method)
                except Exception:  # what libvirt or its binding refuses was called all the same
                    continue
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
