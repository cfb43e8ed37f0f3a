"""Being the only process that writes to a file: a lock that goes with its holder, however that ends."""

from __future__ import annotations


def take(handle: int) -> bool:
    """Lock an open file until it is closed; False when another process holds it.

    Systems and file systems without such locks go without.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that knows no locks
        return True
    return True
