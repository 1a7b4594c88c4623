# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the words of programs that use libvirt are: options and positions, each with the kind of its
value (kinds.py).

An option with the kind "" takes no value; "?" behind a kind: it may go without one; "..." behind a
position's: any number of them. What is not in here is hidden, with every value behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from log.redact.marker import words


class Tool(NamedTuple):
    """A program's options and positions."""

    options: Mapping[str, str]
    positions: tuple[str, ...] = ()
    commands: str = ""  # which part of shell.json has its commands


def _options(**kinds: str) -> dict[str, str]:
    """Kind=names, names with blanks between; `none` is the kind of those without a value."""
    return {
        name.rstrip("?"): ("" if kind == "none" else kind) + "?" * name.endswith("?")
        for kind, names in kinds.items()
        for name in names.split()
    }


_DAEMON = Tool(
    {
        **_options(
            none="-d --daemon -l --listen -v --verbose -V --version -h --help",
            number="-t --timeout",
        ),
        **_options(path="-f --config -p --pid-file -P"),
    }
)
_VIRSH = _options(
    none="-q --quiet -r --readonly -t --timing -v -V --version -h --help --no-pkttyagent",
    uri="-c --connect",
    number="-d --debug -k --keepalive-interval -K --keepalive-count",
    path="-l --log",
    word="-e --escape",
)
_BUILD = {  # of virt-install and virt-xml
    **_options(
        parts=(
            "--graphics --network --controller --input --serial --parallel --channel "
            "--console --hostdev --sound? --audio"
        )
    ),
    **_options(
        parts=(
            "-w --watchdog --video --smartcard --redirdev --memballoon --tpm --rng "
            "--panic --shmem --memdev --vsock --iommu"
        )
    ),
    **_options(
        parts=(
            "--boot --cpu --features --clock --pm --events --iothreads --seclabel "
            "--security --cputune --numatune --memtune"
        )
    ),
    **_options(
        parts=(
            "--blkiotune --memorybacking --keywrap --idmap --resource --launchSecurity "
            "--sysinfo --cloud-init?"
        )
    ),
    **_options(disk="--disk --filesystem", count="--memory --vcpus"),
    **_options(
        masked=(
            "--metadata --xml --qemu-commandline --extra-args -x --unattended? "
            "--install --cpu-model"
        )
    ),
    **_options(
        words="--os-variant --osinfo",
        word="--print-xml? --virt-type --arch --machine --print-step",
    ),
    **_options(none="-h --help --version --debug -d -q --quiet --dry-run -y --confirm"),
    **_options(uri="--connect", masked="--check"),
}
TOOLS: dict[str, Tool] = {
    **dict.fromkeys(
        words("""libvirtd virtqemud virtlxcd virtxend virtvboxd virtchd virtbhyved virtvzd
        virtnetworkd virtinterfaced virtnodedevd virtnwfilterd virtsecretd virtstoraged
        virtproxyd virtlogd virtlockd"""),
        _DAEMON,
    ),
    "virt-install": Tool(
        {
            **_BUILD,
            **_options(
                name="-n --name --reinstall",
                number="--ram -r --wait?",
                path="--cdrom --initrd-inject --location -l",
            ),
            **_options(
                none=(
                    "--pxe --import --hvm --paravirt --container --noautoconsole --noreboot "
                    "--transient --destroy-on-exit --autostart"
                )
            ),
            **_options(
                none="-v -p --check-cpu --nographics --nodisks --nonetworks",
                word="--autoconsole? --prompt",
            ),
        }
    ),
    "virt-xml": Tool(
        {
            **_BUILD,
            **_options(
                none=(
                    "--add-device --remove-device --build-xml --update --define "
                    "--no-define --start --convert-to-q35"
                )
            ),
            **_options(word="--edit?", name="--domain"),
        },
        ("name",),
    ),
    "virt-clone": Tool(
        {
            **_options(
                name="-o --original -n --name -m --mac --skip-copy --force-copy",
                path="--original-xml -f --file --nvram",
            ),
            **_options(
                none=(
                    "-h --help --version --auto-clone --reflink --nonsparse "
                    "--preserve-data --replace --print-xml"
                )
            ),
            **_options(none="-d --debug -q --quiet", uri="--connect", masked="--check"),
        }
    ),
    "virt-viewer": Tool(
        {
            **_options(
                none=(
                    "-h --help -V --version -d --direct -a --attach -w --wait -r --reconnect -f "
                    "--full-screen -v --verbose --debug"
                )
            ),
            **_options(
                none="-k --kiosk -s --shared -x --id --uuid --domain-name",
                uri="-c --connect",
                number="-z --zoom",
            ),
            **_options(word="-H --hotkeys -K --keymap -C --cursor --kiosk-quit"),
        },
        ("name",),
    ),
    "virt-manager": Tool(
        {
            **_options(
                none=(
                    "-h --help --version --no-fork --fork --debug --show-domain-creator "
                    "--show-host-summary --show-systray --trace-libvirt"
                )
            ),
            **_options(
                uri="-c --connect",
                name=(
                    "--show-domain-editor --show-domain-performance "
                    "--show-domain-console --show-domain-delete"
                ),
            ),
        }
    ),
    "virt-top": Tool(
        {
            **_options(
                none="-1 -2 -3 --batch --stream --debug -R -r --secure",
                uri="-c --connect",
                number="-d -n --delay",
            )
        }
    ),
    "virt-host-validate": Tool(_options(none="-h --help -v --version -q --quiet"), ("word",)),
    "virt-pki-validate": Tool(_options(none="-h --help -V --version")),
    "virt-xml-validate": Tool(_options(none="-h --help -V --version"), ("path", "word")),
    "virt-qemu-run": Tool(
        _options(
            none=("-h --help -v --verbose -d --debug"), path=("-r --root"), masked=("-s --secret")
        ),
        ("path",),
    ),
    "virt-login-shell": Tool(_options(none="-h --help -V --version", masked="-c --cmd")),
    "qemu-img": Tool(
        {
            **_options(
                none="-h --help -V --version -q -p -c -n -U --force-share -W -C -a --shrink"
            ),
            **_options(
                word=("-f -O -F -t -T -m"), path="-b", masked="-o --object --image-opts -s -l"
            ),
        },
        ("word", "path", "path", "number"),
    ),
}
SHELLS = {"virsh": Tool(_VIRSH, (), "virsh"), "virt-admin": Tool(_VIRSH, (), "virt-admin")}
# programs whose first word that is no flag is a script
INTERPRETERS = re.compile(
    r"(?:python|pypy)[0-9.]*|(?:ba|da|z|k)?sh|perl[0-9.]*|ruby[0-9.]*|php[0-9.]*|node(?:js)?|lua[0-9.]*"
)
