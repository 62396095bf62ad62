"""The tiny world: deterministic, with masks, boxes and captions that are true."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from visiontk.errors import UsageError
from visiontk.tiny import world
from visiontk.tiny.draws import Draws
from visiontk.tiny.layers import Pose, composite, place
from visiontk.tiny.looks import dye, turn_hue
from visiontk.tiny.sprites import sprite, textures

CPU = torch.device("cpu")
WILD = world.Augment(hue=0.5, saturation=0.5, contrast=0.3, brightness=0.2, grey=0.2, tint=0.3, flat=0.3, outline=0.5)


def pose(**values: float) -> Pose:
    whole = {"x": 0.5, "y": 0.5, "scale": 1.0, "angle": 0.0, "flip": 1.0} | values
    return Pose(**{name: torch.tensor([[value]]) for name, value in whole.items()})


def test_things_are_told_apart_by_name() -> None:
    things = world.things()
    assert len(things) == len(set(world.names())) == len({thing.codepoint for thing in things}) == 100
    assert all(thing.name == thing.name.lower() and not thing.name.startswith(("a ", "an ", "the ")) for thing in things)
    assert {thing.colour for thing in things} - {None} <= set(world.COLOURS)
    assert {thing.name[0] in "aeiou" for thing in things if thing.article == "an"} == {True}
    assert {thing.name[0] in "aeiou" for thing in things if thing.article == "a"} == {False}


@pytest.mark.parametrize("style", world.STYLES)
def test_every_sprite_fills_its_cell_and_has_no_dark_fringe(style: str) -> None:
    cells = textures((style,), CPU)[0, 0]
    boxes = world.boxes_of(cells[:, 3] > 0.1)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (sides.amax(-1) >= 55).all() and (sides.amax(-1) <= 60).all()
    assert ((boxes[:, :2] + boxes[:, 2:]) / 2 - 32).abs().max() <= 2
    # Edge pixels of a bright, even drawing are as bright as its inside.
    star = cells[world.names().index("star")]
    edge = (star[3] > 0.2) & (star[3] < 0.8)
    inside = star[:3, star[3] > 0.99].mean(-1)
    assert ((star[:3, edge] / star[3, edge]).mean(-1) > inside - 0.2).all()


@pytest.mark.parametrize("style", world.STYLES)
def test_named_colours_are_the_drawings_own(style: str) -> None:
    """By mean hue in degrees, weighted by chroma; black, grey and white by their mean chroma and value."""
    hues = {"red": (-30, 20), "pink": (-30, 25), "orange": (30, 50), "yellow": (28, 56), "green": (55, 145), "blue": (190, 220)}
    hues |= {"purple": (250, 310), "brown": (5, 32)}
    tones = {"white": (0.22, 0.65, 1.0), "grey": (0.12, 0.4, 0.75), "black": (0.2, 0.0, 0.35), "pink": (1.0, 0.65, 1.0)}
    for thing, cell in zip(world.things(), textures((style,), CPU)[0, 0], strict=True):
        if thing.colour is None:
            continue
        pixels = cell[:3, cell[3] > 0.99].T
        chroma = pixels.amax(1) - pixels.amin(1)
        angles = torch.tensor([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels.tolist()]) * 2 * math.pi
        hue = math.degrees(math.atan2(float((chroma * angles.sin()).sum()), float((chroma * angles.cos()).sum())))
        if thing.colour in hues:
            low, high = hues[thing.colour]
            assert (hue - low) % 360 <= high - low, (thing.name, hue)
        if thing.colour in tones:
            greyish, dark, bright = tones[thing.colour]
            assert float(chroma.mean()) < greyish and dark < float(pixels.mean()) < bright, thing.name


def test_draws_depend_on_their_name_alone() -> None:
    batch, alone = Draws(7, [3, 5, 11], "x"), Draws(7, [5], "x")
    assert torch.equal(batch.uniform(4)[1:2], alone.uniform(4))
    assert torch.equal(batch.choose(9, 2)[1:2], alone.choose(9, 2))
    numbers = [Draws(seed, [index], purpose).uniform(3) for seed in (0, 1) for index in (0, 1) for purpose in ("x", "y")]
    assert len({float(value) for row in numbers for value in row.flatten()}) == 24


def test_draws_are_uniform() -> None:
    values = Draws(0, range(500), "x").uniform(200).double()
    assert abs(float(values.mean()) - 0.5) < 0.005 and abs(float(values.var()) - 1 / 12) < 0.002
    assert (torch.histc(values, 20, 0, 1) / values.numel() - 0.05).abs().max() < 0.003
    for first, second in ((values[:, :-1], values[:, 1:]), (values[:-1], values[1:])):
        assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.01
    assert int(Draws(0, range(1000), "y").choose(7).max()) == 6


@pytest.mark.parametrize("size", [64, 100])
@pytest.mark.parametrize("augment", [None, WILD])
def test_a_scene_is_the_same_in_every_batch(size: int, augment: world.Augment | None) -> None:
    def render(indices: list[int]) -> world.Scenes:
        return world.render_scenes(5, indices, size=size, objects=(1, 3), styles=world.STYLES, augment=augment)

    batch = render([*range(20), 1000])
    again = render([*range(20), 1000])
    assert torch.equal(batch.images, again.images) and batch.captions == again.captions
    for index in (0, 7, 20):
        alone = render([1000 if index == 20 else index])
        for name in ("images", "labels", "masks", "alphas", "boxes", "styles", "backgrounds"):
            assert torch.equal(getattr(alone, name)[0], getattr(batch, name)[index]), name
        assert alone.captions[0] == batch.captions[index]
    assert len({image.numpy().tobytes() for image in batch.images}) == 21
    assert not torch.equal(world.render_scenes(6, 1, size=size).images, world.render_scenes(5, 1, size=size).images)


def test_a_sprite_that_stands_straight_is_its_texture() -> None:
    texture = textures(("noto",), CPU)[0, :, 4]
    assert torch.allclose(place(texture, pose(), 64)[:, 0], texture, atol=1e-5)
    assert torch.allclose(place(texture, pose(flip=-1.0), 64)[:, 0], texture.flip(-1), atol=1e-5)
    assert torch.allclose(place(texture, pose(angle=math.pi / 2), 64)[:, 0], texture.rot90(-1, (-2, -1)), atol=1e-4)
    moved = place(texture, pose(x=0.5 + 5 / 64, y=0.5 - 3 / 64), 64)[:, 0]
    assert torch.allclose(moved[..., :61, 5:], texture[..., 3:, :59], atol=1e-4)
    halved = place(texture, pose(scale=0.5), 64)[0, 0]
    assert torch.allclose(halved[:, 16:48, 16:48], functional.avg_pool2d(texture, 2)[0], atol=1e-5)


def test_layers_over_the_background_are_the_image() -> None:
    """By hand, in double precision and from the front to the back, which the renderer does from the back to the front."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(2, 3, 1, 1, 9, 9, generator=generator)
    layers = torch.cat([torch.rand(2, 3, 1, 3, 9, 9, generator=generator) * alpha, alpha], dim=3)
    background = torch.rand(2, 3, 9, 9, generator=generator)
    result = composite(background, layers)
    through = torch.ones(2, 1, 9, 9, dtype=torch.double)
    wanted = torch.zeros(2, 3, 9, 9, dtype=torch.double)
    shares: list[torch.Tensor] = []
    for layer in (layers[:, 2, 0].double(), layers[:, 1, 0].double(), layers[:, 0, 0].double()):
        wanted += through * layer[:, :3]
        shares.insert(0, through[:, 0] * layer[:, 3])
        through = through * (1 - layer[:, 3:])
    wanted += through * background
    assert torch.allclose(result.images[:, 0].double(), wanted, atol=1e-6)
    assert torch.equal(result.masks[:, 0], torch.stack(shares, dim=1) > 0.5)


def test_alphas_and_masks_explain_the_picture() -> None:
    scenes = world.render_scenes(1, 40, objects=1)
    alpha = scenes.alphas[:, 0, None]
    background = scenes.backgrounds.float() / 255
    image = scenes.images.float() / 255
    untouched = (alpha == 0).expand_as(image)
    assert torch.equal(scenes.images[untouched], scenes.backgrounds[untouched])
    # What is left after the background's share is taken away is a colour times alpha.
    rest = image - background * (1 - alpha)
    assert (rest >= -2 / 255).all() and (rest <= alpha + 2 / 255).all()
    assert torch.equal(scenes.masks[:, 0], scenes.alphas[:, 0] > 0.5)


def test_boxes_are_the_extents_of_masks_and_masks_are_disjoint() -> None:
    scenes = world.render_scenes(2, 60, objects=(1, 4), size=48)
    assert scenes.masks.sum(1).max() == 1
    for masks, boxes, labels in zip(scenes.masks, scenes.boxes, scenes.labels, strict=True):
        for mask, box, label in zip(masks, boxes, labels, strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            assert bool(len(rows)) == (int(label) >= 0)
            extents = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
            assert box.tolist() == [float(value) for value in extents]
    counts = (scenes.labels >= 0).sum(1)
    assert set(counts.tolist()) == {1, 2, 3, 4}
    assert all(len(set(row[row >= 0].tolist())) == int((row >= 0).sum()) for row in scenes.labels)


def test_a_later_object_is_before_an_earlier_one() -> None:
    scenes = world.render_scenes(3, 200, objects=2)
    both = (scenes.alphas > 0.99).all(1)
    assert both.any(-1).any(-1).sum() > 20
    assert scenes.masks[:, 1][both].all() and not scenes.masks[:, 0][both].any()


def test_one_thing_stands_whole_within_the_picture() -> None:
    scenes = world.render_scenes(4, 300)
    sides = (scenes.boxes[:, 0, 2:] - scenes.boxes[:, 0, :2]).amax(-1)
    assert sides.min() > 20 and sides.max() <= 64
    edges = torch.cat([scenes.masks[..., 0, :], scenes.masks[..., -1, :], scenes.masks[..., 0], scenes.masks[..., -1]], dim=-1)
    assert edges.any(-1).float().mean() < 0.15


def test_captions_of_two_things_are_true() -> None:
    scenes = world.render_scenes(5, 300, objects=2)
    seen = set()
    for item, caption in enumerate(scenes.captions):
        nouns = [world.names()[label] for label in scenes.labels[item].tolist()]
        first, second = caption.index(nouns[0]), caption.rindex(nouns[1])
        assert first < second, caption
        between = caption[first + len(nouns[0]) : second]
        x0, y0, x1, y1 = scenes.boxes[item].T
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        relation = next((word for word in ("left of", "right of", "above", "below", "behind") if f" {word} " in between), "and")
        seen.add(relation)
        assert {
            "left of": x[0] < x[1],
            "right of": x[0] > x[1],
            "above": y[0] < y[1],
            "below": y[0] > y[1],
            "behind": (scenes.alphas[item].amin(0) > 0.5).any(),
            "and": True,
        }[relation], caption
    assert seen == {"left of", "right of", "above", "below", "behind", "and"}


def test_plain_backgrounds_have_the_colour_that_the_caption_names() -> None:
    scenes = world.render_scenes(6, 200, backgrounds=["plain"])
    corners = scenes.backgrounds[:, :, 0, 0]
    assert world.nearest_colour(corners) == scenes.background_colours
    for caption, colour, own in zip(scenes.captions, scenes.background_colours, scenes.colours, strict=True):
        assert colour is not None and colour not in own
        assert caption.endswith(f" on {'an' if colour == 'orange' else 'a'} {colour} background")
    assert set(scenes.background_colours) == set(world.COLOURS)


def test_every_kind_of_background_occurs() -> None:
    scenes = world.render_scenes(7, 200, size=32)
    assert {kind: scenes.background_kinds.count(kind) > 30 for kind in world.KINDS} == dict.fromkeys(world.KINDS, True)
    flat = (scenes.backgrounds.flatten(2).amax(-1) == scenes.backgrounds.flatten(2).amin(-1)).all(1)
    assert [kind == "plain" for kind in scenes.background_kinds] == flat.tolist()


def test_own_colours_are_named_only_while_they_hold() -> None:
    apple = torch.full((100, 1), world.names().index("apple"))
    plain = world.render_scenes(8, 100, labels=apple)
    assert all(caption.startswith("a red apple on ") for caption in plain.captions)
    turned = world.render_scenes(8, 100, labels=apple, augment=world.Augment(hue=0.5))
    assert sum(caption.startswith("an apple on ") for caption in turned.captions) > 80
    dyed = world.render_scenes(8, 100, labels=apple, augment=world.Augment(tint=1.0), styles=["twemoji"])
    right = 0
    for item, colours in enumerate(dyed.colours):
        assert colours[0] is not None and f" {colours[0]} apple" in dyed.captions[item]
        pixels = dyed.images[item][:, dyed.alphas[item, 0] > 0.99].float().mean(-1)
        right += world.nearest_colour(pixels[None] / 255) == colours
    assert right > 80


def test_articles() -> None:
    chosen = [[world.names().index(name)] for name in ("jeans", "scissors", "grapes", "eggplant", "airplane", "carrot")]
    captions = world.render_scenes(0, 6, labels=torch.tensor(chosen)).captions
    starts = [
        "a pair of blue jeans",
        "a pair of scissors",
        "a bunch of purple grapes",
        "a purple eggplant",
        "an airplane",
        "an orange carrot",
    ]
    assert [caption[: len(start)] for caption, start in zip(captions, starts, strict=True)] == starts


def test_turning_the_hue_keeps_the_luma() -> None:
    colours = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    luma = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    turned = turn_hue(colours, torch.tensor([0.0, 0.25, 0.5, 1.0]))
    assert torch.allclose((turned * luma).sum(1), (colours * luma).sum(1), atol=2e-3)
    assert torch.allclose(turned[[0, 3]], colours[[0, 3]], atol=5e-3)
    assert (turned[2] - colours[2]).abs().mean() > 0.1


def test_dyeing_keeps_the_order_of_shades() -> None:
    greys = torch.linspace(0, 1, 11).view(1, 1, 1, 11).expand(1, 3, 1, 11)
    dyed = dye(greys, torch.tensor([[0.8, 0.2, 0.1]]))
    assert (dyed.diff(dim=-1) >= -1e-6).all()
    assert torch.allclose(dyed[0, :, 0, 5], torch.tensor([0.8, 0.2, 0.1]), atol=1e-5)


def test_outlines_grow_the_mask() -> None:
    plain = world.render_scenes(9, 30)
    outlined = world.render_scenes(9, 30, augment=world.Augment(outline=1.0))
    assert (outlined.masks.flatten(1).sum(1) > plain.masks.flatten(1).sum(1)).all()
    assert (outlined.alphas >= plain.alphas - 1e-4).all()


def test_a_clip_is_the_same_in_every_batch() -> None:
    clips = world.render_clips(3, 9, 6)
    for index in (0, 4, 8):
        alone = world.render_clip(3, index, 6)
        assert torch.equal(alone.frames, clips[index].frames) and torch.equal(alone.index_masks, clips[index].index_masks)
        assert alone.caption == clips.captions[index] and torch.equal(alone.labels, clips[index].labels)


def test_objects_of_a_clip_keep_their_identity() -> None:
    """From frame to frame an object moves little, and its pixels keep their colours."""
    clips = world.render_clips(4, 12, 12, objects=2, leaves=0.0, passes=0.0, backgrounds=["plain"])
    middles = (clips.boxes[..., :2] + clips.boxes[..., 2:]) / 2
    whole = (clips.visible > 0.9).all(1)
    assert whole.sum() > 8
    steps = middles.diff(dim=1).norm(dim=-1).amax(1)
    assert steps[whole].max() < 12
    assert (middles[:, -1] - middles[:, 0]).norm(dim=-1)[whole].mean() > 8
    for clip, number in whole.nonzero().tolist():
        means = torch.stack(
            [
                frame[:, indices == number + 1].float().mean(-1)
                for frame, indices in zip(clips.frames[clip], clips.index_masks[clip], strict=True)
            ]
        )
        assert means.std(0).max() < 12


def test_a_hidden_thing_has_no_pixels_and_comes_back() -> None:
    clips = world.render_clips(5, 20, 24, objects=1, leaves=1.0)
    areas = (clips.index_masks == 1).sum((-1, -2))
    assert (areas[:, 0] > 0).all() and (areas[:, -1] > 0).all() and (areas.amin(1) == 0).all()
    assert torch.equal(areas == 0, (clips.boxes[:, :, 0] == 0).all(-1))
    assert torch.equal(areas == 0, clips.visible[:, :, 0] == 0)


def test_things_pass_behind_larger_ones() -> None:
    clips = world.render_clips(6, 40, 24, objects=2, passes=1.0, leaves=0.0)
    seen = clips.visible[:, :, 0]
    lost = seen.amin(1) < 0.35
    assert lost.float().mean() > 0.6
    assert ((seen[lost, :6].amax(1) > 0.7) & (seen[lost, -6:].amax(1) > 0.7)).float().mean() > 0.7
    assert (seen.amin(1) == 0).any()
    assert (clips.visible[:, :, 1].amin(1) > 0.6).all()


def test_a_clip_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = world.render_clip(8, 3, 10, objects=3)
    monkeypatch.setattr("visiontk.tiny.clips._PIXELS_AT_ONCE", 3 * 3 * 64**2)
    parts = world.render_clip(8, 3, 10, objects=3)
    assert torch.equal(parts.frames, whole.frames) and torch.equal(parts.index_masks, whole.index_masks)
    assert torch.equal(parts.boxes, whole.boxes) and torch.equal(parts.visible, whole.visible)


@pytest.mark.parametrize("frames", [1, 2, 200])
def test_clips_of_any_length(frames: int) -> None:
    clip = world.render_clip(7, 0, frames, size=32, objects=(1, 3))
    assert clip.frames.shape == (frames, 3, 32, 32) and clip.index_masks.shape == (frames, 32, 32)
    assert torch.isfinite(clip.boxes).all()


@pytest.mark.parametrize(
    "options", [{"styles": ["pixel"]}, {"styles": []}, {"size": 3}, {"objects": 0}, {"objects": (3, 2)}, {"backgrounds": ["lava"]}]
)
def test_what_cannot_be_rendered_is_said(options: dict[str, Any]) -> None:
    calls: list[Callable[..., object]] = [world.render_scenes, world.render_clips]
    for call in calls:
        with pytest.raises(UsageError, match="; use "):
            call(0, 1, **options)


def test_unknown_sprites_are_refused() -> None:
    assert sprite("apple", "twemoji").size == (64, 64)
    with pytest.raises(UsageError, match="no thing 'yeti'"):
        sprite("yeti", "noto")
