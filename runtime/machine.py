"""What the machine has."""

from __future__ import annotations

import os


def machine_bytes() -> int:
    """Bytes of main memory; 16 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 16 << 30
