"""How GNU's C library gives out memory: in huge pages, and keeping what is freed for the next step.

By itself it asks the kernel for each large tensor and hands it back when it is freed, so that every step waits until
the same pages have been cleared again, 4 KiB at a time. Measured in experiments/speed/environment.py; the bits are the
same.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
# gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html: huge pages where the kernel gives them to who
# asks; no tensor in a mapping of its own; nothing handed back below 1 TiB.
SETTINGS = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"

DEBUGGER = "_pydevd_bundle"


def keep_freed_memory() -> None:
    """Start this process's program anew, once, with these settings, which are read before Python runs.

    A user's own variable stays as it is, also an empty one, and other systems than Linux with GNU's library as well.
    Under the debuggers of VS Code and PyCharm nothing starts anew: they would wait for the first interpreter.
    """
    if VARIABLE not in os.environ and sys.executable and has_glibc() and DEBUGGER not in sys.modules:
        os.environ[VARIABLE] = SETTINGS
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows; macOS; other libraries
        return False
