"""Why an item failed, as data; and which failures may pass if one tries again."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Stage = Literal["item", "plan", "run", "save"]
_NODE = re.compile(r"in node ([\w/-]+) \((\S+?)\)")
# what a disk or a network may answer now and not in a second; what is missing or damaged stays so
_PASSING = frozenset(
    number
    for number, name in errno.errorcode.items()
    if name
    in {"EAGAIN", "EBUSY", "EINTR", "EIO", "EMFILE", "ENFILE", "ENOLCK", "EPIPE", "EREMOTEIO", "ESTALE"}
    or name.startswith(("ECONN", "EHOST", "ENET", "ETIMEDOUT"))
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is kept of an error. type: its class. node, node_type: where it was raised, None outside nodes.

    stage: "item", its line cannot be used; "plan", it was foreseen; "run", it was raised;
    "save", what came out cannot be stored.
    """

    type: str
    message: str
    stage: Stage
    node: str | None = None
    node_type: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: BaseException, stage: Stage) -> Failure:
        """Of an error that a plan or a run raised: its notes say in which node."""
        notes = tuple(getattr(error, "__notes__", ()))
        found = next(filter(None, map(_NODE.match, notes)), None)
        return cls(
            type=type(error).__name__,
            message=str(error),
            stage=stage,
            node=found[1] if found else None,
            node_type=found[2] if found else None,
            notes=notes,
        )

    def plain(self) -> Mapping[str, Any]:
        """As JSON."""
        return {**asdict(self), "notes": list(self.notes)}

    def __str__(self) -> str:
        at = f" in {self.node}" if self.node else ""
        return f"{self.type}{at}: {self.message}"


def passing(error: BaseException) -> bool:
    """Whether an error comes from a disk or a network that may answer better the next time."""
    return any(
        isinstance(one, ConnectionError | TimeoutError)
        or (isinstance(one, OSError) and one.errno in _PASSING)
        for one in _causes(error)
    )


def lost_device(error: BaseException) -> bool:
    """Whether an error leaves the accelerator unusable for the rest of the process."""
    import torch

    kind: Any = getattr(torch, "AcceleratorError", ())  # not for memory that ran out
    return any(isinstance(one, kind) for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__
