"""How much memory there is, so that what can't fit is refused before it is begun."""

import os
import re
import sys
from pathlib import Path

GIB = 2**30

_CGROUPS = (  # limit and use, of version 2 and of version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_host_memory() -> int:
    """Bytes that the operating system, a container's limit and that of the process still give."""
    free = [2**40]
    meminfo = read_text("/proc/meminfo")
    if match := re.search(r"MemAvailable:\s+(\d+) kB", meminfo):
        free.append(1024 * int(match[1]))
    for limit, used in _CGROUPS:
        texts = read_text(limit), read_text(used)
        if all(text.strip().isdigit() for text in texts):
            free.append(max(0, int(texts[0]) - int(texts[1])))
    return min(*free, _free_addresses())


def in_units(size: int) -> str:
    """A number of bytes as people say it: 3.5 MiB, 1.2 GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def _free_addresses() -> int:
    """Bytes of address space that `ulimit -v` leaves to this process."""
    try:
        import resource
    except ImportError:  # not on Windows
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = read_text("/proc/self/statm").split()
    if limit == resource.RLIM_INFINITY or not used:
        return sys.maxsize
    return max(0, limit - int(used[0]) * os.sysconf("SC_PAGE_SIZE"))


def read_text(path: str) -> str:
    """What a file of the system says; nothing where there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
