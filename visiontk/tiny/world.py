"""The tiny world: pictures and clips of a hundred everyday things, with exact masks, boxes and captions.

>>> from visiontk.tiny import world
>>> scenes = world.render_scenes(seed=0, indices=range(4), size=64)
>>> scenes.images.shape, scenes.captions[0]
(torch.Size([4, 3, 64, 64]), 'a lion on a photo background')

A scene or clip is named by its seed and index and is the same whatever batch it is rendered in. Two styles of drawing are for training
(`TRAIN_STYLES`), the third (`HELD_OUT_STYLE`) is for measuring how far a model goes beyond them.
"""

from .backgrounds import KINDS
from .clips import Clip, Clips, render_clip, render_clips
from .colours import COLOURS, nearest_colour
from .looks import Augment
from .masks import boxes_of, index_map
from .scenes import Scenes, render_scenes
from .sprites import HELD_OUT_STYLE, STYLES, TRAIN_STYLES, Thing, names, things

__all__ = [
    "COLOURS",
    "HELD_OUT_STYLE",
    "KINDS",
    "STYLES",
    "TRAIN_STYLES",
    "Augment",
    "Clip",
    "Clips",
    "Scenes",
    "Thing",
    "boxes_of",
    "index_map",
    "names",
    "nearest_colour",
    "render_clip",
    "render_clips",
    "render_scenes",
    "things",
]
