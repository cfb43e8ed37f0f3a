"""The socket types: what travels along the wires."""

from .llm import Answer, Hiding, KVCache, LayerCache, LLMInput, LLMState, Logits, Segment
from .media import Frames, Image, Tile, Tiles, Video
from .prompt import Prompt, Slot
from .report import Picture, Table
from .segments import Segments
from .source import Kind, Source
from .tokens import Patches, Tokens, VisualTokens

__all__ = [
    "Answer",
    "Frames",
    "Hiding",
    "Image",
    "KVCache",
    "Kind",
    "LLMInput",
    "LLMState",
    "LayerCache",
    "Logits",
    "Patches",
    "Picture",
    "Prompt",
    "Segment",
    "Segments",
    "Slot",
    "Source",
    "Table",
    "Tile",
    "Tiles",
    "Tokens",
    "Video",
    "VisualTokens",
]
