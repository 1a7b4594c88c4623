# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of BPF the running kernel has, one line of Markdown's: this is probed for, no version is
compared.
"""

import platform

from probes.kernel.loading.features import (
    has_may_goto,
    has_session,
    has_sleepable,
    has_uprobe_multi,
)

CHECKS = (has_uprobe_multi, has_session, has_sleepable, has_may_goto)

if __name__ == "__main__":
    answers = ("yes" if check() else "no" for check in CHECKS)
    print("|", platform.release(), "|", " | ".join(answers), "|")
