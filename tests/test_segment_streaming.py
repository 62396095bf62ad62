"""Tracking through a stream: the official video predictor's logits to the last bit, in constant memory."""

from __future__ import annotations

import copy
import functools
import gc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sam2.sam2_video_predictor
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.utils.transforms import SAM2Transforms
from torch import Tensor

from visiontk.adapters import segment_video
from visiontk.adapters.segment import ObjectPrompt, Segmenter
from visiontk.adapters.segment_network import Features, Network
from visiontk.adapters.segment_video import LookAhead, Tracked, Tracker
from visiontk.errors import ItemError, UsageError
from visiontk.runtime import Runtime

WIDTH, HEIGHT = 96, 64
CONFIG = Path(__file__).parent / "data" / "random-sam2.yaml"
POINT = ObjectPrompt(1, 0, points=((25.0, 50.0),), labels=(1,))
BOX = ObjectPrompt(2, 0, box=(20.0, 10.0, 60.0, 60.0))
# The finer of the encoder's maps as the embedding, and none beside it for the mask decoder. With more spread, masks are full or empty.
FINE: dict[str, Any] = {
    "spread": 0.02,
    "image_encoder.scalp": 2,
    "image_encoder.neck.fpn_top_down_levels": (1, 2, 3),
    "backbone_stride": 8,
    "use_high_res_features_in_sam": False,
    "memory_encoder.mask_downsampler.total_stride": 8,
    "memory_attention.layer.self_attention.feat_sizes": (16, 16),
    "memory_attention.layer.cross_attention.feat_sizes": (16, 16),
}
LATE = ObjectPrompt(4, 5, points=((70.0, 20.0), (10.0, 10.0)), labels=(1, 0))
CLICK = ObjectPrompt(1, 6, points=((60.0, 30.0), (20.0, 50.0)), labels=(0, 1))


@functools.cache
def transform(size: int = 128) -> Any:
    """sam2's own, for images."""
    return SAM2Transforms(size, 0.0)


def mask_prompt(object_id: int, frame: int) -> ObjectPrompt:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[10:30, 50:70], mask[17:23, 57:63] = True, False  # with a hole in it
    return ObjectPrompt(object_id, frame, mask=mask)


@functools.cache
def built(kind: str, visible: float = 2.0, spread: float = 0.2, file: Path = CONFIG, **settings: object) -> Any:
    """One of sam2's classes with random weights that are the same each time, spread so that prompts and memories matter.

    ``settings`` are by their dotted names in the configuration of ``file``.
    """
    torch.manual_seed(0)
    extra = {"dynamic_multimask_via_stability": True, "dynamic_multimask_stability_delta": 0.05, "dynamic_multimask_stability_thresh": 0.98}
    given = {"sam_mask_decoder_extra_args": extra, "binarize_mask_from_pts_for_mem_enc": True, "_target_": kind, **settings}
    config: Any = OmegaConf.load(file).model
    for name, value in given.items():
        OmegaConf.update(config, name, list(value) if isinstance(value, tuple) else value)
    model = instantiate(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(visible)
    return model


@pytest.fixture(scope="module")
def clip() -> list[Image.Image]:
    """A red and a blue square that move over a blurred background."""
    random = np.random.default_rng(0)
    blurred = Image.fromarray(random.integers(0, 255, (8, 12, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    frames = []
    for step in range(40):
        frame = blurred.copy()
        frame.paste((255, 40, 20), (10 + step, 30, 28 + step, 48))
        frame.paste((20, 90, 255), (70 - step, 5, 85 - step, 20))
        frames.append(frame)
    return frames


class Watched(Segmenter):
    """Keeps the logits from which masks are made: by object, one for each frame, float32 (height, width)."""

    def __init__(self, dtype: str = "fp32", visible: float = 2.0, settings: Mapping[str, Any] | None = None) -> None:
        model = copy.deepcopy(built("sam2.modeling.sam2_base.SAM2Base", visible, **(settings or {})))
        super().__init__(Network(model, Runtime(device="cpu", dtype=dtype).start()), name="random", revision="0")
        self.logits: list[dict[int, Tensor]] = []

    def _masks(self, tracked: Sequence[Tracked], features: Features) -> list[Any]:
        size = (features.height, features.width)
        enlarged = {one.object_id: F.interpolate(one.logits, size, mode="bilinear", align_corners=False)[0, 0] for one in tracked}
        self.logits.append(enlarged)
        return super()._masks(tracked, features)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam2.sam2_video_predictor, "tqdm", lambda frames, **_: frames)


def official(
    clip: Sequence[Image.Image],
    prompts: Sequence[ObjectPrompt],
    monkeypatch: pytest.MonkeyPatch,
    *,
    bf16: bool = False,
    reverse: bool = False,
    settings: Mapping[str, Any] | None = None,
    visible: float = 2.0,
) -> dict[int, dict[int, Tensor]]:
    """What SAM2VideoPredictor says, by frame and object, when each prompt is given as its frame is reached. The transform is sam2's."""
    monkeypatch.setattr(sam2.sam2_video_predictor, "tqdm", lambda frames, **_: frames)
    predictor = built("sam2.sam2_video_predictor.SAM2VideoPredictor", visible, **(settings or {}))
    pixels = torch.stack([transform(predictor.image_size)(frame) for frame in clip])
    monkeypatch.setattr(sam2.sam2_video_predictor, "load_video_frames", lambda **_: (pixels, HEIGHT, WIDTH))
    monkeypatch.setattr(predictor, "add_all_frames_to_correct_as_cond", True)
    found: dict[int, dict[int, Tensor]] = {}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        state = predictor.init_state("")
        stops = sorted({prompt.frame for prompt in prompts}, reverse=reverse)
        for frame, last in zip(stops, [*stops[1:], 0 if reverse else len(clip) - 1], strict=True):
            for prompt in (prompt for prompt in prompts if prompt.frame == frame):
                if prompt.mask is not None:
                    predictor.add_new_mask(state, frame, prompt.object_id, prompt.mask)
                else:
                    points, labels = (prompt.points, prompt.labels) if prompt.points else (None, None)
                    predictor.add_new_points_or_box(state, frame, prompt.object_id, points, labels, box=prompt.box)
            # It tracks one frame more than it is asked for.
            for index, ids, logits in predictor.propagate_in_video(state, frame, abs(last - frame), reverse):
                found[index] = dict(zip(list(ids), logits[:, 0], strict=True))
    return found


def agree(ours: Watched, clip: Sequence[Image.Image], wanted: dict[int, dict[int, Tensor]], results: Sequence[Any]) -> None:
    """Logits equal to the bit, the masks made from them, and every compared mask neither empty nor full nor always the same."""
    assert [result.frame for result in results if result.objects] == list(wanted)
    shares = []
    for result, logits in zip([result for result in results if result.objects], ours.logits, strict=True):
        assert {one.object_id for one in result.objects} == set(wanted[result.frame]) == set(logits)
        for one in result.objects:
            assert torch.equal(logits[one.object_id], wanted[result.frame][one.object_id]), (result.frame, one.object_id)
            np.testing.assert_array_equal(one.mask, wanted[result.frame][one.object_id].numpy() > 0)
            assert one.mask.shape == (HEIGHT, WIDTH) and one.mask.any() and not one.mask.all()
            shares.append(one.mask.mean())
    assert len(clip) < 3 or len(set(shares)) > 2


SCENES = {
    "a point": ([POINT], 12),
    "points, box and mask, late objects": ([POINT, BOX, mask_prompt(3, 0), LATE, mask_prompt(5, 7)], 9),
    "corrections by clicks, a box and a mask": ([POINT, BOX, ObjectPrompt(2, 3, box=(5.0, 5.0, 40.0, 40.0)), CLICK, mask_prompt(2, 9)], 11),
    "a box and points together": ([ObjectPrompt(1, 3, points=((30.0, 30.0),), labels=(0,), box=(20.0, 10.0, 60.0, 60.0))], 6),
}


@pytest.mark.parametrize("scene", SCENES)
def test_logits_are_the_official_predictors_to_the_bit(scene: str, clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, count = SCENES[scene]
    ours = Watched()
    results = list(ours.video(enumerate(clip[:count]), prompts))
    agree(ours, clip[:count], official(clip[:count], prompts, monkeypatch), results)


def test_and_so_they_are_under_bf16_autocast(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [POINT, mask_prompt(3, 0), ObjectPrompt(2, 2, box=BOX.box), ObjectPrompt(1, 4, points=CLICK.points, labels=CLICK.labels)]
    ours = Watched("bf16")
    results = list(ours.video(enumerate(clip[:7]), prompts))
    agree(ours, clip[:7], official(clip[:7], prompts, monkeypatch, bf16=True), results)


def test_fp16_is_near_to_float32(clip: list[Image.Image]) -> None:
    """Not to the bit: the official predictor, whose memories are bf16 in every dtype, cannot be run in it."""
    prompts = [POINT, mask_prompt(3, 0), ObjectPrompt(2, 2, box=BOX.box), ObjectPrompt(1, 4, points=CLICK.points, labels=CLICK.labels)]
    half, single = Watched("fp16"), Watched()
    results = list(half.video(enumerate(clip[:7]), prompts))
    assert [[one.object_id for one in result.objects] for result in results] == [[1, 3]] * 2 + [[1, 2, 3]] * 5
    list(single.video(enumerate(clip[:7]), prompts))
    for ours, exact in zip(half.logits, single.logits, strict=True):
        for number, logits in exact.items():
            assert ((ours[number] > 0) == (logits > 0)).float().mean() > 0.98


@pytest.mark.parametrize(
    ("prompts", "count", "bf16"),
    [([POINT], 20, False), ([POINT, LATE, mask_prompt(3, 0), mask_prompt(5, 7)], 18, False), ([POINT, LATE, mask_prompt(3, 0)], 9, True)],
    ids=["beyond the pointers' reach", "late objects and masks", "under bf16 autocast, and shorter than 16 frames"],
)
def test_and_so_they_are_with_memories_that_reach_as_far_as_in_the_published_models(
    prompts: list[ObjectPrompt], count: int, bf16: bool, clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {"num_maskmem": 7, "max_obj_ptrs_in_encoder": 16}
    ours = Watched("bf16" if bf16 else "fp32", settings=published)
    results = list(ours.video(enumerate(clip[:count]), prompts))
    agree(ours, clip[:count], official(clip[:count], prompts, monkeypatch, bf16=bf16, settings=published), results)


PUBLISHED = {"file": Path(sam2.__path__[0]) / "configs" / "sam2.1" / "sam2.1_hiera_t.yaml", "spread": 0.02}


def test_and_so_they_are_with_the_configuration_of_a_published_model_at_1024_pixels(
    clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32 alone: where a CPU has no units for bf16, so many pixels take minutes."""
    prompts = [POINT, ObjectPrompt(2, 1, box=BOX.box)]
    ours = Watched("fp32", settings=PUBLISHED)
    assert ours.network.image_size == 1024
    results = list(ours.video(enumerate(clip[:2]), prompts))
    agree(ours, clip[:2], official(clip[:2], prompts, monkeypatch, bf16=False, settings=PUBLISHED), results)


# Those of SAM 2, before 2.1: pointers without the time between, and nothing that says in a memory that the object was hidden.
FIRST_SAM2 = {
    "add_tpos_enc_to_obj_ptrs": False,
    "proj_tpos_enc_in_obj_ptrs": False,
    "use_signed_tpos_enc_to_obj_ptrs": False,
    "no_obj_embed_spatial": False,
}


def test_and_so_they_are_with_the_settings_of_the_first_sam2(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [POINT, BOX, LATE, CLICK]
    first, later = Watched(settings=FIRST_SAM2), Watched()
    results = list(first.video(enumerate(clip[:10]), prompts))
    agree(first, clip[:10], official(clip[:10], prompts, monkeypatch, settings=FIRST_SAM2), results)
    list(later.video(enumerate(clip[:10]), prompts))
    assert not torch.equal(first.logits[9][1], later.logits[9][1]), "they do matter"


@pytest.mark.parametrize(("settings", "colour", "visible"), [({}, (0, 255, 0), -0.6), (FIRST_SAM2, (0, 0, 0), 0.4)])
def test_and_so_they_are_of_an_object_that_is_hidden_and_comes_back(
    settings: dict[str, bool],
    colour: tuple[int, int, int],
    visible: float,
    clip: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a few frames of one colour. Random weights tell it from what is there by little, so ``visible`` is just between."""
    covered = [*clip[:4], *[Image.new("RGB", clip[0].size, colour)] * 3, *clip[7:12]]
    prompts = [POINT, LATE]
    wanted = official(covered, prompts, monkeypatch, settings=settings, visible=visible)
    ours = Watched(visible=visible, settings=settings)
    results = list(ours.video(enumerate(covered), prompts))
    for result, logits in zip(results, ours.logits, strict=True):
        for one in result.objects:
            assert torch.equal(logits[one.object_id], wanted[result.frame][one.object_id]), (result.frame, one.object_id)
            np.testing.assert_array_equal(one.mask, wanted[result.frame][one.object_id].numpy() > 0)
    first = [one for result in results for one in result.objects if one.object_id == 1]
    shown = [bool(one.mask.any()) for one in first]
    assert (True, False) in pairwise(shown) and (False, True) in pairwise(shown)
    assert any(one.score < 0.5 and not one.mask.any() for one in first[4:])
    assert min(abs(one.score - 0.5) for one in first) > 1e-3, "so far from between that rounding cannot show or hide it"


FINE_SCENES = {
    "points and a box": [POINT, BOX, LATE, CLICK],
    # The official predictor cannot join the 32 x 32 logits of a mask that was given and the 64 x 64 of other answers on one frame.
    "a mask that is corrected": [mask_prompt(3, 1), ObjectPrompt(3, 4, points=CLICK.points, labels=CLICK.labels)],
}


@pytest.mark.parametrize("scene", FINE_SCENES)
def test_and_so_they_are_where_the_embedding_is_finer_and_stands_alone(
    scene: str, clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Watched(settings=FINE)
    results = list(ours.video(enumerate(clip[:9]), FINE_SCENES[scene]))
    assert ours.network.model.sam_prompt_encoder.mask_input_size == (64, 64)
    agree(ours, clip[:9], official(clip[:9], FINE_SCENES[scene], monkeypatch, settings=FINE), results)


def test_there_a_mask_and_other_prompts_can_stand_on_one_frame(clip: list[Image.Image]) -> None:
    both, alone = Watched(settings=FINE), Watched(settings=FINE)
    together = list(both.video(enumerate(clip[:4]), [POINT, mask_prompt(3, 0)]))
    single = list(alone.video(enumerate(clip[:4]), [mask_prompt(3, 0)]))
    for one, other in zip(together, single, strict=True):
        assert [found.object_id for found in one.objects] == [1, 3]
        np.testing.assert_array_equal(one.objects[1].mask, other.objects[0].mask)


def test_there_a_mask_of_a_picture_is_refined_as_by_the_official_predictor(clip: list[Image.Image]) -> None:
    prompt = mask_prompt(3, 0)
    assert prompt.mask is not None
    predictor = SAM2ImagePredictor(copy.deepcopy(built("sam2.modeling.sam2_base.SAM2Base", **FINE)))
    predictor._bb_feat_sizes = [(16, 16)]  # it is made for 1024 pixels
    predictor.set_image(clip[0])
    square = F.interpolate(torch.from_numpy(prompt.mask)[None, None].float(), (128, 128), mode="bilinear", antialias=True) >= 0.5
    hint = F.interpolate(square.float() * 20 - 10, (64, 64), mode="bilinear", antialias=True)[0].numpy()
    masks, ious, _ = predictor.predict(box=np.array([50, 10, 70, 30]), mask_input=hint, multimask_output=False)
    [found] = Watched(settings=FINE).image(clip[0], [prompt])
    np.testing.assert_array_equal(found.mask, masks[0] > 0)
    assert found.iou == float(ious[0]) and found.mask.any() and not found.mask.all()


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7])
def test_videos_about_as_long_as_the_pointers_reach(count: int, clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Watched()
    results = list(ours.video(enumerate(clip[:count]), [POINT]))
    agree(ours, clip[:count], official(clip[:count], [POINT], monkeypatch), results)


@pytest.mark.parametrize(("start", "count"), [(12, 20), (3, 5)])
def test_tracking_backwards(start: int, count: int, clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [ObjectPrompt(1, start, points=POINT.points, labels=(1,)), ObjectPrompt(2, start - 1, box=BOX.box)]
    prompts.append(ObjectPrompt(1, start - 2, points=((60.0, 30.0),), labels=(0,)))
    ours = Watched()
    frames = [(index, clip[index]) for index in range(start, -1, -1)]
    results = list(ours.video(frames, prompts, reverse=True, length=count))
    agree(ours, clip, official(clip[:count], prompts, monkeypatch, reverse=True), results)


def test_a_part_of_a_video_is_tracked_as_in_the_whole(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = ObjectPrompt(1, 20, points=POINT.points, labels=(1,))
    ours = Watched()
    results = list(ours.video([(index, clip[index]) for index in range(20, 28)], [prompt]))
    agree(ours, clip, official(clip[:28], [prompt], monkeypatch), results)


def forgetting(monkeypatch: pytest.MonkeyPatch, **reaches: int) -> None:
    made = Tracker.__init__

    def forgetful(self: Tracker, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        vars(self).update(reaches)

    monkeypatch.setattr(Tracker, "__init__", forgetful)


def test_to_forget_one_pointer_more_would_show(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons above are sharp, and the videos in them long enough."""
    exact, ours = Watched(), Watched()
    list(exact.video(enumerate(clip[:8]), [POINT]))
    forgetting(monkeypatch, pointers=5)
    list(ours.video(enumerate(clip[:8]), [POINT], length=8))
    assert [torch.equal(one[1], other[1]) for one, other in zip(exact.logits, ours.logits, strict=True)].index(False) == 6


def test_to_forget_one_spatial_memory_more_would_fail(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    forgetting(monkeypatch, _memory_reach=2)
    stream = Watched().video(enumerate(clip[:8]), [POINT])
    assert [next(stream).frame for _ in range(4)] == list(range(4))
    with pytest.raises(AttributeError, match="NoneType"):
        next(stream)


def test_what_is_kept_does_not_grow(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    trackers: list[Tracker] = []
    made = Tracker.__init__

    def remembered(self: Tracker, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        trackers.append(self)

    monkeypatch.setattr(Tracker, "__init__", remembered)
    ours = Watched()
    frames = ((step, clip[step % 40]) for step in range(80))
    sizes, alive = [], []
    for result in ours.video(frames, [POINT, CLICK]):
        ours.logits.clear()
        if result.frame + 1 in (40, 80):
            kept = [tensor for memory in trackers[0].objects.values() for tensor in tensors(vars(memory))]
            sizes.append((len(kept), sum(tensor.untyped_storage().nbytes() for tensor in kept)))
            alive.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))
    assert sizes[0] == sizes[1] and alive[0] == alive[1]


def tensors(thing: object) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict | list):
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from tensors(part)


def test_frames_are_read_as_late_as_can_be(clip: list[Image.Image]) -> None:
    read: list[int] = []

    def frames() -> Iterator[tuple[int, Image.Image]]:
        for index, frame in enumerate(clip[:10]):
            read.append(index)
            yield index, frame

    ahead = [len(read) - result.frame - 1 for result in Watched().video(frames(), [POINT])]
    assert ahead == [0, *range(4, 0, -1), *[0] * 5]  # the first mask needs its frame alone; the second looks for 6 frames
    read.clear()
    assert [len(read) - result.frame - 1 for result in Watched().video(frames(), [POINT], length=10)] == [0] * 10


def test_reading_ahead_counts_what_there_is() -> None:
    items = LookAhead("abcde")
    assert (next(items), items.count(3), next(items), items.count(16), items.count(4)) == ("a", 3, "b", 5, 4)
    assert list(items) == ["c", "d", "e"]
    assert items.count(0) == 0


def test_a_video_that_is_cut_off_gives_the_frames_that_it_has(clip: list[Image.Image]) -> None:
    def frames() -> Iterator[tuple[int, Image.Image]]:
        yield from enumerate(clip[:4])
        raise ItemError("broken", "the video ends in the middle")

    stream = Watched().video(frames(), [POINT])
    assert [next(stream).frame for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ItemError, match="ends in the middle"):
        next(stream)


def test_a_correction_changes_its_frame_and_what_follows(clip: list[Image.Image]) -> None:
    """The official predictor throws such a click away unless it is built with add_all_frames_to_correct_as_cond."""
    plain, corrected = Watched(), Watched()
    list(plain.video(enumerate(clip[:10]), [POINT]))
    list(corrected.video(enumerate(clip[:10]), [POINT, CLICK]))
    same = [torch.equal(one[1], other[1]) for one, other in zip(plain.logits, corrected.logits, strict=True)]
    assert same == [frame < CLICK.frame for frame in range(10)]


def test_the_official_predictor_stumbles_over_late_objects_in_fp32(clip: list[Image.Image], quiet: None) -> None:
    """Why prompts wait for their frames: given beforehand, a late object is tracked from the start, without any pointer until its frame."""
    predictor = built("sam2.sam2_video_predictor.SAM2VideoPredictor")
    state = {"images": torch.zeros(12, 3, 128, 128), "num_frames": 12, "video_height": HEIGHT, "video_width": WIDTH}
    state |= {"device": torch.device("cpu"), "storage_device": torch.device("cpu"), "offload_video_to_cpu": False}
    state |= {name: {} for name in ("point_inputs_per_obj", "mask_inputs_per_obj", "cached_features", "constants", "obj_id_to_idx")}
    state |= {name: {} for name in ("obj_idx_to_id", "output_dict_per_obj", "temp_output_dict_per_obj", "frames_tracked_per_obj")}
    for prompt in (POINT, LATE):
        predictor.add_new_points_or_box(state, prompt.frame, prompt.object_id, prompt.points, prompt.labels)
    with pytest.raises(RuntimeError, match="dtype"):
        list(predictor.propagate_in_video(state))


def test_late_objects_start_on_their_own_frame(clip: list[Image.Image]) -> None:
    results = list(Watched().video(enumerate(clip[:8]), [POINT, LATE]))
    assert [[one.object_id for one in result.objects] for result in results] == [[1]] * 5 + [[1, 4]] * 3


def test_holes_stay_and_nothing_warns(clip: list[Image.Image]) -> None:
    """Filling holes needs an extension that most installations of sam2 lack; the official predictor then warns at every frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = next(iter(Watched().video(enumerate(clip[:1]), [mask_prompt(1, 0)])))
    mask = result.objects[0].mask
    assert mask[13, 53] and mask[26, 66] and not mask[19:21, 59:61].any()


def test_images_and_frames_are_resized_alike_and_as_sam2_does_images(clip: list[Image.Image]) -> None:
    network = Watched().network
    for image in (clip[0], clip[3].resize((1000, 400)), clip[5].resize((128, 128))):
        assert torch.equal(network.pixels(image)[0], transform()(image))


def test_hidden_objects_have_an_empty_mask_and_a_low_score(clip: list[Image.Image]) -> None:
    ours = Watched(visible=-2.0)
    results = list(ours.video(enumerate(clip[:4]), [mask_prompt(1, 0)]))
    shown, *hidden = [result.objects[0] for result in results]
    assert shown.mask.any() and shown.score > 0.99 and shown.iou == 1
    for one, logits in zip(hidden, ours.logits[1:], strict=True):
        assert one.mask.shape == (HEIGHT, WIDTH) and not one.mask.any() and one.score < 0.5
        assert bool((logits[1] == -1024).all())


def test_scores_and_ious_are_those_of_the_heads(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Watched()
    said: list[tuple[Tensor, Tensor]] = []
    whole = ours.network.model._forward_sam_heads

    def heads(**arguments: Any) -> Any:
        outputs = whole(**arguments)
        said.append((outputs[2], outputs[6]))
        return outputs

    monkeypatch.setattr(ours.network.model, "_forward_sam_heads", heads)
    for result, (ious, score) in zip(ours.video(enumerate(clip[:5]), [POINT]), said, strict=False):
        [one] = result.objects
        assert ious.shape == (1, 3)
        assert one.iou == pytest.approx(float(ious.max())) and one.score == pytest.approx(float(score.sigmoid()))


def test_frames_that_are_left_out_do_not_break_the_memory(clip: list[Image.Image]) -> None:
    every_third, close = Watched(), Watched()
    results = list(every_third.video([(3 * step, clip[step]) for step in range(9)], [POINT]))
    list(close.video(enumerate(clip[:9]), [POINT]))
    assert [result.frame for result in results] == list(range(0, 27, 3))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(every_third.logits, close.logits, strict=True))


def test_a_prompt_whose_frame_never_comes(clip: list[Image.Image]) -> None:
    stream = Watched().video(enumerate(clip[:3]), [POINT, ObjectPrompt(7, 90, box=BOX.box)])
    assert [next(stream).frame for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ItemError, match="object 7 is on frame 90, which never comes: the frames are 0 to 2") as raised:
        next(stream)
    assert raised.value.kind == "no_frame"
    with pytest.raises(ItemError, match="there are no frames"):
        list(Watched().video([], [POINT]))


def test_frames_without_anything_to_track_cost_no_model(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Watched()
    encoded: list[int] = []
    monkeypatch.setattr(ours.network, "encode", lambda image: encoded.append(1))
    assert [result.objects for result in ours.video(enumerate(clip), [])] == [[]] * 40
    assert not encoded


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([POINT, POINT], "object 1 has two prompts on frame 0; join them"),
        ([ObjectPrompt(1, 0)], "is empty; give points, a box or a mask"),
        ([ObjectPrompt(1, 0, points=((1.0, 1.0),))], "has 1 points and the labels"),
        ([ObjectPrompt(1, 0, mask=np.ones((4, 6), dtype=np.bool_))], "is a mask of 6x4 pixels and the picture has 96x64"),
        ([ObjectPrompt(1, 0, box=BOX.box, mask=np.ones((HEIGHT, WIDTH), dtype=np.bool_))], "a mask beside points or a box"),
    ],
)
def test_prompts_that_make_no_sense(prompts: list[ObjectPrompt], message: str, clip: list[Image.Image]) -> None:
    with pytest.raises(UsageError, match=message):
        list(Watched().video(enumerate(clip[:2]), prompts))


def test_numbers_that_are_not_finite_end_the_video(clip: list[Image.Image]) -> None:
    ours = Watched()
    with torch.no_grad():
        ours.network.model.memory_attention.norm.bias.fill_(float("nan"))
    stream = ours.video(enumerate(clip[:3]), [POINT])
    next(stream)
    with pytest.raises(ItemError, match="gave NaN or infinity in fp32; try --dtype fp32") as raised:
        next(stream)
    assert raised.value.kind == "not_finite"


def test_running_out_of_memory_is_said_as_such(clip: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.errors import OutOfMemory

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    ours = Watched()
    monkeypatch.setattr(segment_video.Tracker, "start", full)
    with pytest.raises(OutOfMemory):
        list(ours.video(enumerate(clip[:3]), [POINT]))
