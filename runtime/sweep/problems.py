"""Everything that is wrong with a sweep or a comparison, said at once and before any work."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import LoomError, SweepError

MOST = 20  # that are shown


@dataclass
class Problems:
    """Mistakes as they are found. kind: the error that they become."""

    kind: type[LoomError] = SweepError
    found: dict[str, None] = field(default_factory=dict[str, None])

    def say(self, text: str | LoomError) -> None:
        """Note one; the same is noted once."""
        self.found.setdefault(str(text))

    def stop(self) -> None:
        """Raise one error with all of them, if there are any."""
        if not self.found:
            return
        lines = list(self.found)
        more = [f"and {len(lines) - MOST} more mistakes"] if len(lines) > MOST else []
        raise self.kind("\n".join([*lines[:MOST], *more]))
