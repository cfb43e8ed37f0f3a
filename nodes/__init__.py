"""The built-in nodes: one file per stage. Importing this registers them all."""

from .media import load_image as load_image
from .media import load_video as load_video
from .sample import sample_frames as sample_frames
from .tile import pad_square as pad_square
from .tile import preprocess as preprocess
from .tile import resize_crop as resize_crop
from .tile import tile_anyres as tile_anyres
