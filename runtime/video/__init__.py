"""Reading frames: one interface, four back ends, and the rules that choose which frames to read."""

from .choose import open_source, probe
from .source import FrameSource, PartialDecode

__all__ = ["FrameSource", "PartialDecode", "open_source", "probe"]
