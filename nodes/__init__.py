"""The built-in nodes: one file per stage. Importing this registers them all."""

from .generate import generate as generate
from .media import load_image as load_image
from .media import load_video as load_video
from .models import load_model as load_model
from .models import load_projector as load_projector
from .models import load_vision_tower as load_vision_tower
from .place import place_tokens as place_tokens
from .prefill import prefill as prefill
from .prefill import read_logits as read_logits
from .prompt import render_chat as render_chat
from .sample import sample_frames as sample_frames
from .tile import pad_square as pad_square
from .tile import preprocess as preprocess
from .tile import resize_crop as resize_crop
from .tile import tile_anyres as tile_anyres
