"""What computes: versions of tokenloom, Python and the libraries, for recipes and reports."""

from __future__ import annotations

import platform

from .keys import library_versions
from .version import __version__


def versions() -> dict[str, str]:
    """tokenloom, python, and the libraries that enter cache keys, as far as they are installed."""
    found = {name: version for name, version in library_versions().items() if version != "absent"}
    return {"tokenloom": __version__, "python": platform.python_version(), **found}
