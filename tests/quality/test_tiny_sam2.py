"""The bundled SAM 2's figures on freshly rendered pictures and clips, fixed seeds, against floors a little under what was measured.

`python -m tests.quality.test_tiny_sam2` prints them over 100 pictures and 100 clips, as the table of docs/segmentation.md has them; with
a number after it over so many of each, as the README has them over 400, and with a model after that those of another one.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from visiontk import Runtime
from visiontk.adapters.segment_types import Auto
from visiontk.media.video import probe, read_frames
from visiontk.metrics.regions import jaccard
from visiontk.tiny import world
from visiontk.tiny.files import picture
from visiontk.training.segment_measure import LEAST_PIXELS, SEED, Counts, box, click, measure, numbered

if TYPE_CHECKING:
    from tests.conftest import Run
    from visiontk.adapters.segment import Segmenter

CPU = Runtime(device="cpu", dtype="fp32")
QUICK = Counts(pictures=40, clips=12, frames=12)
# (training styles, held-out style), and behind them what was measured over so few; the marks are for more, see docs/benchmarks.md.
FLOORS = {
    "pictures, one click: mIoU": (0.88, 0.79),  # 0.891, 0.803
    "pictures, a box: mIoU": (0.88, 0.82),  # 0.889, 0.830
    "clips, one click: J&F": (0.73, 0.66),  # 0.745, 0.672
    "clips, a mask: J&F": (0.80, 0.72),  # 0.815, 0.735
}


@cache
def figures() -> dict[str, dict[str, float]]:
    return measure("tiny-sam2", CPU, QUICK)


@pytest.mark.parametrize("figure", FLOORS)
def test_it_finds_and_follows_things(figure: str) -> None:
    training, held_out = FLOORS[figure]
    assert figures()[figure]["training"] >= training
    assert figures()[figure]["held_out"] >= held_out


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    from visiontk.adapters.segment import load

    return load("tiny-sam2", CPU)


def returns(segmenter: Segmenter, count: int) -> tuple[list[bool], list[float]]:
    """Of clips of one thing that leaves the picture and returns, clicked on in the first frame.

    For each frame without it whether nothing is found, and for each after its return the IoU.
    """
    clips = world.render_clips(SEED + 2, count, 24, size=128, objects=1, leaves=1.0)
    gone, back = list[bool](), list[float]()
    for frames, labels in zip(clips.frames, clips.index_masks.numpy(), strict=True):
        truth = labels == 1
        areas = truth.sum((1, 2))
        hidden = np.flatnonzero(areas == 0)
        if areas[0] < LEAST_PIXELS or not len(hidden):
            continue
        for answer in segmenter.video(numbered(frames), [click(1, truth[0])]):
            [found] = answer.objects
            if areas[answer.frame] == 0:
                gone.append(not found.mask.any())
            elif answer.frame > hidden[-1] and areas[answer.frame] >= 200:
                back.append(jaccard(found.mask, truth[answer.frame]))
    return gone, back


def test_what_leaves_the_picture_is_hidden_until_it_comes_back(segmenter: Segmenter) -> None:
    gone, back = returns(segmenter, 16)
    assert len(gone) > 100 and np.mean(gone) > 0.9
    assert len(back) > 100 and np.mean(back) > 0.6


def test_everything_in_a_picture_is_found(segmenter: Segmenter) -> None:
    scenes = world.render_scenes(SEED + 3, 20, size=128, objects=(1, 3))
    best: list[float] = []
    for image, masks in zip(scenes.images, scenes.masks.numpy(), strict=True):
        found = segmenter.everything(picture(image))
        best += [max((jaccard(one.mask, mask) for one in found), default=0.0) for mask in masks if mask.sum() >= 200]
    assert len(best) > 40 and np.mean(np.array(best) > 0.5) > 0.9


def test_what_is_tracked_is_not_found_again_on_later_frames(segmenter: Segmenter) -> None:
    """Six searches of a clip, whose things are found by the first."""
    clips = world.render_clips(SEED + 4, 6, 12, size=128, objects=2, leaves=0, passes=0)
    once, often = list[int](), list[int]()
    for frames in clips.frames:
        for counts, every in ((once, None), (often, 2)):
            *_, last = segmenter.video(numbered(frames), [], auto=Auto(every=every))
            counts.append(len(last.objects))
    assert sum(once) >= 12 and sum(once) <= sum(often) <= sum(once) + 3


def test_its_masks_are_the_official_predictors(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of clicks, a box, a late object and a correction, from the same pixels."""
    import sam2.sam2_video_predictor
    import torch
    from sam2.utils.transforms import SAM2Transforms

    from benchmarks.segment_official import predictor

    clip = world.render_clip(SEED + 5, 0, 18, size=128, objects=2)
    masks = [clip.index_masks.numpy() == number for number in (1, 2)]
    late = click(2, masks[1][4])
    prompts = [click(1, masks[0][0]), replace(late, frame=4), replace(box(1, masks[0][9]), frame=9)]
    pictures = [picture(frame) for frame in clip.frames]
    pixels = torch.stack([SAM2Transforms(128, 0.0)(image) for image in pictures])
    monkeypatch.setattr(sam2.sam2_video_predictor, "tqdm", lambda frames, **_: frames)
    monkeypatch.setattr(sam2.sam2_video_predictor, "load_video_frames", lambda **_: (pixels, 128, 128))
    made = predictor("tiny-sam2", "cpu")
    wanted: dict[int, dict[int, Any]] = {}
    with torch.inference_mode():
        state = made.init_state("")
        for prompt, last in zip(prompts, (4, 9, 17), strict=True):
            points, labels = (prompt.points, prompt.labels) if prompt.points else (None, None)
            made.add_new_points_or_box(state, prompt.frame, prompt.object_id, points, labels, box=prompt.box)
            for index, ids, logits in made.propagate_in_video(state, prompt.frame, last - prompt.frame):
                wanted[index] = dict(zip(list(ids), (logits[:, 0] > 0).numpy(), strict=True))
    answers = list(segmenter.video(enumerate(pictures), prompts))
    assert [answer.frame for answer in answers] == list(wanted) == list(range(18))
    for answer in answers:
        assert {one.object_id for one in answer.objects} == set(wanted[answer.frame])
        for one in answer.objects:
            np.testing.assert_array_equal(one.mask, wanted[answer.frame][one.object_id], str(answer.frame))
    assert sum(one.mask.any() for answer in answers for one in answer.objects) > 24


def test_one_command_shows_what_was_clicked_on_and_follows_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six rendered clips, a click on the first frame of each: J&F of the lines, and overlays that are coloured where the thing is."""
    monkeypatch.chdir(tmp_path)
    assert run("tiny", "render", "clips", "-n", "6", "--frames", "10", "--objects", "1", "-o", "clips").code == 0
    lines, inside, outside = b"", list[float](), list[float]()
    for name in sorted(path.name for path in Path("clips/JPEGImages").iterdir()):
        frames = [np.asarray(Image.open(file).convert("RGB"), np.int16) for file in sorted(Path("clips/JPEGImages", name).iterdir())]
        masks = [np.asarray(Image.open(file)) == 1 for file in sorted(Path("clips/Annotations", name).iterdir())]
        [(x, y)] = click(1, masks[0]).points
        done = run("segment", f"clips/JPEGImages/{name}", "-m", "tiny-sam2", "-p", f"point:{x:g},{y:g}", "-o", f"{name}.mp4")
        assert done.code == 0 and len(done.records) == len(frames)
        lines += done.stdout
        for frame, source, mask in zip(read_frames(f"{name}.mp4"), frames, masks, strict=True):
            changed = np.abs(np.asarray(frame.image, np.int16) - source).max(2) > 40
            inside.append(changed[mask].mean() if mask.any() else np.nan)
            outside.append(changed[~mask].mean())
    assert np.nanmean(inside) > 0.6 and np.mean(outside) < 0.05, (np.nanmean(inside), np.mean(outside))
    measured = run("eval", "segment", "-", "clips/Annotations", stdin=lines)
    assert measured.records[-1]["J&F"] > 0.7, measured.records[-1]


def test_without_a_hub_it_follows_a_click_through_a_real_video(run: Run, bunny: Path) -> None:
    """It knows no photographs, nor films: what is asked here is that each frame has its answer, and the overlay its frames."""
    result = run("segment", bunny, "--prompt", "point", "-o", "overlay.mp4")
    assert result.code == 0 and "tiny-sam2" in result.stderr
    assert [record["frame"] for record in result.records] == list(range(60))
    assert all(len(record["segment"]["objects"]) == 1 for record in result.records)
    assert result.records[0]["segment"]["objects"][0]["area"] > 0
    found, original = probe("overlay.mp4"), probe(str(bunny))
    assert (found.width, found.height, found.frames_estimate) == (original.width, original.height, 60)
    assert found.fps == pytest.approx(original.fps)


if __name__ == "__main__":
    count, model = (sys.argv[1:] + ["100", "tiny-sam2"][len(sys.argv) - 1 :])[:2]
    for name, found in measure(model, CPU, Counts(pictures=int(count), clips=int(count))).items():
        print(f"{name:<26} training styles {found['training']:.3f}   held-out style {found['held_out']:.3f}")
    from visiontk.adapters.segment import load

    absent, after = returns(load(model, CPU), 64)
    told = f"hidden in {np.mean(absent):.1%} of the frames without it, IoU {np.mean(after):.3f} after its return"
    print(f"64 clips of one thing that leaves and returns: {told}")
