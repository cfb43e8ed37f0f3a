"""The built-in nodes: one file per stage. Importing this registers them all."""

from .encode import encode_vision as encode_vision
from .generate import generate as generate
from .media import load_image as load_image
from .media import load_video as load_video
from .merge import merge_contextual as merge_contextual
from .models import load_model as load_model
from .models import load_projector as load_projector
from .models import load_vision_tower as load_vision_tower
from .pack import pack_flat as pack_flat
from .pack import pack_spatial_unpad as pack_spatial_unpad
from .pack import pack_visionzip_next as pack_visionzip_next
from .place import place_tokens as place_tokens
from .prefill import prefill as prefill
from .prefill import read_logits as read_logits
from .project import project_mlp as project_mlp
from .prompt import render_chat as render_chat
from .sample import sample_frames as sample_frames
from .select import select_dominant as select_dominant
from .select import select_tokens as select_tokens
from .tile import pad_square as pad_square
from .tile import preprocess as preprocess
from .tile import resize_crop as resize_crop
from .tile import tile_anyres as tile_anyres
