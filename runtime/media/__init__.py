"""Reading media in worker processes: a decoder that crashes or hangs costs one item, not the run."""

from .pool import DecodePool
from .requests import OpenClip, PictureSize, ReadFrames, ReadPicture, Request

__all__ = ["DecodePool", "OpenClip", "PictureSize", "ReadFrames", "ReadPicture", "Request"]
