"""Memory, files and cores that this process uses or may use."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys


def rss_bytes() -> int:
    """Resident memory of this process, bytes."""
    try:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc: the peak, which macOS counts in bytes and others in KiB
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def return_freed_memory() -> None:
    """Give memory that this process has freed back to the system, which the C library does not do by itself.

    For after much was freed: arrays of less than 32 MiB are kept for later ones of such sizes. Takes milliseconds.
    """
    with contextlib.suppress(OSError, AttributeError):  # C libraries other than glibc have no such function
        ctypes.CDLL(None).malloc_trim(0)


def open_files() -> int:
    """How many file descriptors this process has open, sockets included; all that it may have if none is left."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:  # looking takes one more
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_file_limit(wanted: int) -> int:
    """Raise this process's limit of open files and connections, as far as it may; returns what it is then.

    Args:
        wanted: How many there may have to be at once. A limit that is higher already stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def usable_cores() -> int:
    """CPU cores that this process may use: where a scheduler such as Slurm grants fewer than there are, only those."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
