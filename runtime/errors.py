"""The errors users meet: `where: what came, what was wanted; what to do`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LoomError(ValueError):
    """Something the user can mend: shown as one message, without a traceback."""


class WiringError(LoomError):
    """Two sockets whose types do not fit, an input left open, or a bad widget value."""


class GraphError(LoomError):
    """A graph that cannot be built, planned or run as it is written."""


class NeedError(GraphError):
    """A side channel that a node asks for and nothing upstream can provide."""


class WroteIntoInputError(GraphError):
    """A node that changed a value that it was given."""


class BudgetError(LoomError):
    """More tokens asked for than there are, or more than the model can hold."""


class MediaError(LoomError):
    """An image or a video that cannot be read as asked."""


class DecoderError(MediaError):
    """A decoder that crashed, hung or was killed in a worker while it read `path`.

    signal: the number of the signal that ended it, or None. seconds: how long it was waited for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        signal: int | None = None,
        seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.path, self.signal, self.seconds = path, signal, seconds


class BudgetNotice(UserWarning):
    """A token budget that what came does not allow, and what was done instead."""


class MediaNotice(UserWarning):
    """A clip that gives what was asked for, though not as one may have thought."""


class CheckpointError(LoomError):
    """Model files that are missing, unsafe, or not what their configuration says."""


class ModelError(LoomError):
    """A model object of a kind, or in a state, in which it cannot be used."""


class PromptError(LoomError):
    """A prompt whose image slots do not match the visual tokens wired to it."""


class SweepError(LoomError):
    """A sweep that cannot be run as it is asked for: its grid, its data or its results."""


class MapError(LoomError):
    """Items that cannot be run as asked: their data, or the folder that their results go to."""


class CompareError(LoomError):
    """A comparison that cannot be made as it is asked for: its graphs differ in what they are asked."""


class RowsError(LoomError):
    """A file of result rows that cannot be read, gone on with, or written."""


class ShapesError(LoomError):
    """Coloured shapes that cannot be drawn, written or scored as asked."""


class BenchError(LoomError):
    """A benchmark that cannot be run as it is asked for, or gone on with."""


class Cancelled(Exception):  # noqa: N818  (not an error)
    """The run was told to stop, and stopped between two nodes or two decode steps."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when something known is near `name`, else `; known: a, b, c` (at most 12)."""
    names = sorted(set(known))
    if near := difflib.get_close_matches(name, names, 1):
        return f"; did you mean {near[0]!r}?"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"; known: {', '.join(names[:12])}{more}" if names else ""
