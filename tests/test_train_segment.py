"""`visiontk train segment`: what a step learns from, how it is judged, and that a run that was stopped comes to the same weights."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.training_runs import course
from visiontk.adapters.segment_weights import read_config
from visiontk.errors import UsageError
from visiontk.runtime import Runtime
from visiontk.tiny import world
from visiontk.training import segment_clips, segment_loss, segment_run
from visiontk.training.learner import MUON
from visiontk.training.muon import Muon
from visiontk.training.segment_hint import MOST_THINGS, REMEMBERED, Hint, _targets, enlarge
from visiontk.training.segment_plan import CLIP_KINDS, IMAGE_KINDS, SegmentPlan, turn
from visiontk.training.segment_track import Prompting

if TYPE_CHECKING:
    from tests.conftest import Run

SURE = 20.0  # a logit


def square(size: int, low: int, high: int) -> torch.Tensor:
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, low:high, low:high] = True
    return mask


def logits_of(mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, SURE, -SURE)[:, None]


def test_a_sure_and_right_answer_costs_nothing() -> None:
    target = square(16, 4, 12)
    loss = segment_loss.mask_loss(logits_of(target), torch.ones(1, 1), torch.tensor([[SURE]]), target)
    assert loss.item() == pytest.approx(0, abs=1e-4)


def test_an_unsure_answer_costs_what_the_formulae_say() -> None:
    """At logit 0 everywhere, for a target of 64 of 256 pixels and a predicted IoU of 0.5."""
    target = square(16, 4, 12)
    loss = segment_loss.mask_loss(torch.zeros(1, 1, 16, 16), torch.full((1, 1), 0.5), torch.zeros(1, 1), target)
    share, log2 = 64 / 256, 0.6931472
    focal = (0.25 * share + 0.75 * (1 - share)) * 0.5**2 * log2
    dice = 1 - (2 * 0.5 * 64 + 1) / (0.5 * 256 + 64 + 1)
    iou = 0.5  # nothing is above 0, so the true IoU is 0
    assert loss.item() == pytest.approx(2 * focal + 5 * dice + iou + log2, rel=1e-5)


def test_of_several_masks_the_best_learns_its_shape_and_all_learn_their_iou() -> None:
    target = square(16, 4, 12)
    logits = torch.cat([logits_of(target), logits_of(~target), logits_of(square(16, 0, 2))], dim=1).requires_grad_()
    ious = torch.full((1, 3), 0.5, requires_grad=True)
    torch.autograd.backward(segment_loss.mask_loss(logits, ious, torch.tensor([[SURE]]), target).sum())
    assert logits.grad is not None and ious.grad is not None
    assert not logits.grad[0, 1:].any()
    assert ious.grad[0].tolist() == pytest.approx([-1 / 3, 1 / 3, 1 / 3])


def test_of_a_hidden_object_only_the_score_learns() -> None:
    nothing = torch.zeros(1, 16, 16, dtype=torch.bool)
    logits, score = torch.zeros(1, 1, 16, 16, requires_grad=True), torch.zeros(1, 1, requires_grad=True)
    loss = segment_loss.mask_loss(logits, torch.zeros(1, 1), score, nothing)
    torch.autograd.backward(loss.sum())
    assert loss.item() == pytest.approx(0.6931472) and logits.grad is not None and score.grad is not None
    assert not logits.grad.any() and score.grad.item() == pytest.approx(0.5)


def test_clips_are_taken_from_anywhere_in_longer_ones() -> None:
    starts, strides = set(), set()
    for first in range(0, 200, 10):
        batch = segment_clips.render_batch(3, [first], 3, 32, 2, dyed=False)
        starts_at, stride = window(batch, 3, first)
        starts.add(starts_at)
        strides.add(stride)
    assert strides == {1, 2, 3} and min(starts) < 5 and max(starts) > 14
    long = segment_clips.render_batch(3, [0], 30, 32, 2, dyed=False)
    assert torch.equal(long.frames[:, 0], world.render_clip(3, 0, 30, size=32, objects=(2, 3)).frames)


def window(batch: segment_clips.ClipBatch, seed: int, index: int) -> tuple[int, int]:
    """From which frame of the clip, and every how manyth, the first clip of the batch was taken."""
    whole, count = world.render_clip(seed, index, 24, size=batch.frames.shape[-1], objects=(2, 3)).frames, len(batch.frames)
    found = [
        (start, stride)
        for stride in (1, 2, 3)
        for start in range(24 - (count - 1) * stride)
        if torch.equal(batch.frames[:, 0], whole[start : start + (count - 1) * stride + 1 : stride])
    ]
    return found[0]


def test_a_batch_holds_the_frontmost_objects_that_are_seen_at_first() -> None:
    batch = segment_clips.render_batch(3, range(6), 4, 64, 2, dyed=False)
    assert batch.frames.shape == (4, 6, 3, 64, 64) and batch.frames.dtype == torch.uint8
    assert batch.masks.shape[0] == 4 and batch.masks.shape[1] == len(batch.clip_of)
    assert batch.clip_of.bincount(minlength=6).tolist() == [min(2, count) for count in seen_in(3, 6, window(batch, 3, 0)[0])]
    assert (batch.masks[0].flatten(1).float().mean(1) >= segment_clips.LEAST_PIXELS).all()
    for frame in batch.masks:  # visible pixels: no two objects of a clip share one
        for clip in range(6):
            assert int(frame[batch.clip_of == clip].sum(0).max()) <= 1


def seen_in(seed: int, clips: int, frame: int) -> list[int]:
    """How many objects of each clip cover enough of a frame."""
    rendered = world.render_clips(seed, clips, 24, size=64, objects=(2, 3), shown=range(frame, frame + 1))
    least, numbers = segment_clips.LEAST_PIXELS * 64 * 64, range(1, rendered.labels.shape[1] + 1)
    return [sum(int((first == number).sum()) >= least for number in numbers) for first in rendered.index_masks[:, 0]]


def test_things_of_clips_are_seen_then_hidden_and_then_seen_again() -> None:
    """One in thirty of them or more. Where nothing leaves it is less, and so it is where nothing passes behind another thing."""
    returns = list[bool]()
    for seed in range(50):
        seen = segment_clips.render_batch(seed, range(4), 6, 64, 3, dyed=False).masks.flatten(2).any(2)  # (T, N)
        returns += [one[0] and not all(one) and any(one[one.index(False) :]) for one in seen.T.tolist()]
    assert len(returns) > 400 and sum(returns) / len(returns) > 1 / 30


def test_dyed_clips_show_the_same_things_in_other_colours() -> None:
    plain, dyed = (segment_clips.render_batch(3, range(6), 3, 64, 3, dyed=dyed) for dyed in (False, True))
    assert torch.equal(plain.kinds, dyed.kinds) or (plain.kinds != dyed.kinds).float().mean() < 0.05  # an outline makes a thing larger
    assert not torch.equal(plain.frames, dyed.frames)
    for clip in range(6):
        assert int(plain.kinds[:, clip].flatten().bincount().count_nonzero()) >= 3  # the background and two things


def test_single_frames_of_clips_may_show_one_thing() -> None:
    batch = segment_clips.render_batch(3, range(20), 1, 64, 3, dyed=False)
    assert {len(set(kinds.flatten().tolist()) - {0}) for kinds in batch.kinds[0]} == {1, 2, 3}


def test_all_things_of_a_clip_are_numbered_and_those_that_were_chosen_are_among_them() -> None:
    batch = segment_clips.render_batch(3, range(6), 1, 64, 2, dyed=True)
    assert batch.things.shape == (1, 6, 64, 64) and batch.things.dtype == torch.uint8 and 2 < int(batch.things.max()) <= MOST_THINGS
    for mask, clip in zip(batch.masks[0], batch.clip_of, strict=True):
        numbers = batch.things[0, clip][mask].unique()  # type: ignore[no-untyped-call]
        assert len(numbers) == 1 and torch.equal(batch.things[0, clip] == numbers[0], mask)
    for clip, labels in enumerate(world.render_scenes(3, range(6), size=64, objects=(1, 4)).labels):
        for place, label in enumerate(labels):
            kinds = batch.kinds[0, clip][batch.things[0, clip] == place + 1]
            assert (kinds == label + 1).all() and (len(kinds) == 0 or label >= 0)
    assert torch.equal(batch.kinds > 0, batch.things > 0)


def test_the_hint_asks_for_each_place_which_thing_it_is_and_how_much_of_it_the_object_covers() -> None:
    torch.manual_seed(0)
    hint = Hint([2, 3, 8], kinds=5)
    assert hint.kind.bias is not None and hint.memory.bias is not None
    kinds = torch.zeros(2, 8, 8, dtype=torch.uint8)
    kinds[0, 4:6, 0:2], kinds[1, 0:2, 6:8] = 3, 5
    coarse = torch.randn(2, 8, 4, 4)
    answers = torch.einsum("kc,nchw->nkhw", hint.kind.weight[:, :, 0, 0], coarse) + hint.kind.bias[:, None, None]
    first, second = answers[0, :, 2, 0].softmax(0)[2], answers[1, :, 0, 3].softmax(0)[4]
    assert hint._kind_loss(coarse, kinds).item() == pytest.approx(-(first.log() + second.log()).item() / 2, rel=1e-5)
    assert hint._kind_loss(coarse, torch.zeros_like(kinds)).item() == 0
    with torch.no_grad():
        hint.kind.bias[2] = 100.0  # it sees the third everywhere, which stands in the first picture alone
    assert hint.known(coarse, kinds) == 0.5

    target = torch.zeros(2, 8, 8, dtype=torch.bool)
    target[0, 4:6, 0:1] = True  # half of one place
    share = torch.zeros(2, 4, 4)
    share[0, 2, 0] = 0.5
    seen = (torch.einsum("c,nchw->nhw", hint.memory.weight[0, :, 0, 0], coarse) + hint.memory.bias).sigmoid()
    expected = -(share * seen.log() + (1 - share) * (1 - seen).log()).mean() * REMEMBERED
    assert hint.memory_loss(coarse, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_hint_asks_where_things_are_and_where_their_middles_are() -> None:
    things = torch.zeros(1, 8, 8, dtype=torch.uint8)
    things[0, 0:4, 0:4], things[0, 6:8, 4:8] = 1, 2
    there, ways = _targets(things)
    assert torch.equal(there, things > 0)
    assert ways[0, :, 0, 0].tolist() == [1.5 / 8, 1.5 / 8] and ways[0, :, 7, 4].tolist() == [1.5 / 8, -0.5 / 8]
    assert not ways[0, :, 5, 5].any()


def test_the_hint_asks_at_places_of_a_thing_what_else_belongs_to_it() -> None:
    """An encoder that says 1 at the first thing and -1 at the second, and a pick that takes the thing of the same sign."""
    torch.manual_seed(0)
    hint = Hint([2, 3, 16], kinds=5)
    things = torch.zeros(2, 32, 32, dtype=torch.uint8)
    things[0, 0:8, 0:8], things[0, 16:32, 16:24], things[1, 8:16, 24:32] = 1, 2, 1
    first, _, last = hint.pick
    assert isinstance(first, torch.nn.Linear) and isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.zero_()
            layer.bias.zero_()

    signs = torch.zeros(2, 16, 32, 32)
    signs[:, 0] = (things == 1).float() - (things == 2).float()
    coarse = signs[..., 4::8, 4::8]
    enlarged = torch.stack([signs[:, 0, 1::2, 1::2], (things[:, 1::2, 1::2] == 0).float()], dim=1)
    shares = [int((things[place] == number).sum()) / 4 for place, number in ((0, 1), (0, 2), (1, 1))]  # in places of the enlarged map
    dice = [1 - (share + 1) / (0.5 * 256 + share + 1) for share in shares]
    assert hint._whole_loss(coarse, enlarged, things).item() == pytest.approx(0.6931472 + sum(dice) / 3, rel=1e-5)

    with torch.no_grad():
        first.weight[0, 0], first.weight[1, 0] = 200.0, -200.0
        last.weight[0, 0], last.weight[0, 1] = 1.0, -1.0
        last.bias[1] = -SURE
    assert hint._whole_loss(coarse, enlarged, things).item() == pytest.approx(0, abs=1e-4)
    assert hint._whole_loss(-coarse, enlarged, things).item() > 10
    assert hint._whole_loss(coarse, enlarged, torch.zeros_like(things)).item() == 0


@pytest.mark.parametrize("high_res", [True, False])
def test_the_map_is_enlarged_as_in_the_mask_decoder(high_res: bool) -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    settings = {} if high_res else {"use_high_res_features_in_sam": False}
    torch.manual_seed(0)
    model = instantiate(OmegaConf.merge(OmegaConf.load(Path(__file__).parent / "data" / "random-sam2.yaml").model, settings)).eval()
    decoder = model.sam_mask_decoder
    seen: list[torch.Tensor] = []
    decoder.output_upscaling[0].register_forward_hook(lambda layer, given, made: seen.append(given[0]))
    decoder.output_upscaling[4].register_forward_hook(lambda layer, given, made: seen.append(made))
    finer = [torch.randn(1, 4, 32, 32), torch.randn(1, 8, 16, 16)] if high_res else []
    with torch.no_grad():
        points = {"point_coords": torch.full((1, 1, 2), 40.0), "point_labels": torch.ones(1, 1, dtype=torch.int32)}
        model._forward_sam_heads(torch.randn(1, 32, 8, 8), points, high_res_features=finer or None)
        taken, made = seen
        assert torch.equal(enlarge(model, [*finer, taken]), made) and made.shape == (1, 4, 32, 32)


def test_pictures_come_first_and_then_every_third_time() -> None:
    plan = SegmentPlan(steps=30, encoder_steps=0, image_steps=10, clips=5, frames=6, images=7, clicks=2)
    turns = [turn(plan, step) for step in range(30)]
    assert all((found.frames, found.count) == (1, 7) for found in turns[:10]) and {found.dyed for found in turns[:10]} == {False, True}
    assert {prompted(plan, step).clicks for step in range(10)} == {0, 1, 2}
    assert [found.frames for found in turns[10:]] == [1 if step % 3 == 0 else 6 for step in range(10, 30)]
    assert turns == [turn(plan, step) for step in range(30)]


def test_of_a_trained_model_only_the_new_heads_learn_at_first_and_on_clips() -> None:
    plan = SegmentPlan(model="x", steps=30, encoder_steps=3, image_steps=6, images=7, frames=6)
    assert (plan.heads_alone, plan.encoder_alone, plan.pictures_alone) == (3, 3, 6)
    turns = [turn(plan, step) for step in range(30)]
    assert [found.frames for found in turns[:3]] == [1, 6, 6]
    assert [found.prompting is None for found in turns] == [False] * 3 + [True] * 3 + [False] * 24
    assert [found.frames for found in turns[6:12]] == [1] * 6 and {found.frames for found in turns[12:]} == {1, 6}
    assert [SegmentPlan(model="x", steps=steps).heads_alone for steps in (9, 1000, 4500)] == [0, 100, 150]
    assert SegmentPlan(steps=4500).heads_alone == 0
    whole = SegmentPlan(model="x", steps=30, encoder_steps=30)
    whole.check()
    assert (whole.encoder_alone, whole.pictures_alone) == (27, 0)


def test_one_in_four_steps_with_clips_has_them_in_varied_colours() -> None:
    plan = SegmentPlan(steps=3000, encoder_steps=0, image_steps=0)
    clips = [found for found in (turn(plan, step) for step in range(3000)) if found.frames > 1]
    assert sum(found.dyed for found in clips) / len(clips) == pytest.approx(0.25, abs=0.03)


def prompted(plan: SegmentPlan, step: int) -> Prompting:
    prompting = turn(plan, step).prompting
    assert prompting is not None
    return prompting


def test_the_encoder_comes_before_prompts_and_sees_things_as_they_are_drawn_and_dyed() -> None:
    plan = SegmentPlan(steps=20, encoder_steps=6, image_steps=4, frames=5, images=7)
    turns = [turn(plan, step) for step in range(20)]
    assert [found.prompting is None for found in turns] == [True] * 6 + [False] * 14
    assert all((found.frames, found.count) == (1, 14) for found in turns[:6])
    assert [found.dyed for found in turns[:6]] == [False, True] * 3
    assert [found.frames for found in turns[6:10]] == [1] * 4 and {found.frames for found in turns[10:]} == {1, 5}


def test_from_nothing_two_in_five_steps_are_the_encoders_and_a_third_of_the_others_pictures() -> None:
    def stages(**options: Any) -> tuple[int, int]:
        plan = SegmentPlan(**options)
        return plan.encoder_alone, plan.pictures_alone

    assert stages() == (2200, 1100) and stages(steps=20, encoder_steps=6) == (6, 4)
    assert stages(steps=20, image_steps=10) == (4, 10)
    assert stages(steps=30, model="x") == (0, 9) and stages(steps=30, model="x", encoder_steps=3) == (3, 8)


def test_the_matrices_of_layers_learn_by_muon_and_nothing_else() -> None:
    """All of a transformer's blocks, wherever they are; no embedding, no token, no head."""
    training = segment_run.Training(SegmentPlan(), Runtime(device="cpu", dtype="fp32").start())
    names = {parameter: name for name, parameter in training.learner.network.named_parameters()}
    muons, others = training.learner.optimisers
    muon = {names[one] for group in muons.param_groups for one in group["params"]}
    assert isinstance(muons, Muon) and {group["lr_scale"] for group in muons.param_groups} == {MUON}
    assert {names[one] for group in others.param_groups for one in group["params"]} == set(names.values()) - muon
    for part in segment_run.HIDDEN:
        inside = {name for name in names.values() if part in name and names_a_matrix(name)}
        assert inside and inside <= muon, part
    assert len(muon) == 91, "of tiny-sam2"
    assert not [name for name in muon if re.search("prompt_encoder|embed|mask_tokens|iou_token|head|hypernetworks", name)]


def names_a_matrix(name: str) -> bool:
    return name.endswith(".weight") and "norm" not in name


def test_the_card_tells_the_steps_in_their_order() -> None:
    from visiontk.training.segment_output import card

    def told(**options: Any) -> str:
        figures = {"clips": {"training": 0.5, "held_out": 0.4}}
        return card("x", SegmentPlan(**options), figures, taken=0.5, parameters=10**6, seconds=60, device="a CPU", dtype="fp32")

    whole = told(steps=20, encoder_steps=6, image_steps=4, frames=5, images=7, clips=2)
    assert "made.** 20 steps: 6 of the encoder and what enlarges its map alone over 14 pictures each, then 4 over 7" in whole
    assert "pictures each, then 10, two in three" in whole
    assert "of them over 2 clips of 5 frames;" in whole
    assert "trained from nothing on the" in whole and "trained on from y on the" in told(model="y")
    assert "trained on from y, whose weights 50% of its own were at first, on the" in told(model="y", config="z.yaml")
    assert "made.** 5 steps: 5 of the encoder and what enlarges its map alone over 16 pictures each;" in told(steps=5, encoder_steps=5)
    assert "made.** 30 steps: 10 over 8 pictures each, then 20, two in three" in told(steps=30, encoder_steps=0)
    assert "focal and dice, 2 to 5 where it has 20 to 1; beside them the encoder and the memory attention are asked" in whole
    further = told(model="y", steps=3000, image_steps=0)
    assert "made.** 3000 steps: 150 of the heads alone that help the encoder, then 2850, two in three" in further


def test_prompts_are_drawn_as_often_as_the_plan_says() -> None:
    plan = SegmentPlan(steps=9000, encoder_steps=0, image_steps=3000)
    pictures = [prompted(plan, step).kind for step in range(3000)]
    clips = [prompted(plan, step).kind for step in range(3000, 9000) if turn(plan, step).frames > 1]
    for drawn, shares in ((pictures, IMAGE_KINDS), (clips, CLIP_KINDS)):
        for kind, share in shares.items():
            assert drawn.count(kind) / len(drawn) == pytest.approx(share, abs=0.03)


def test_a_mask_is_corrected_on_another_frame_alone() -> None:
    plan = SegmentPlan(steps=300, encoder_steps=0, image_steps=0, frames=6)
    for step in range(300):
        found = prompted(plan, step)
        if turn(plan, step).frames > 1:
            assert (0 in found.corrected) == (found.kind != "mask")
            assert all(1 <= frame < 6 for frame in found.corrected if frame)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="use tiny"):
        SegmentPlan(data="photos").check()
    with pytest.raises(UsageError, match="--image-steps 5 are more than --steps 4"):
        SegmentPlan(steps=4, image_steps=5).check()
    with pytest.raises(UsageError, match=r"--image-steps 5 are more than --steps 4$"):
        SegmentPlan(steps=4, model="x", image_steps=5).check()
    with pytest.raises(UsageError, match="--encoder-steps 5 are more than --steps 4"):
        SegmentPlan(steps=4, encoder_steps=5).check()
    with pytest.raises(UsageError, match="--image-steps 3 are more than --steps 4 beside --encoder-steps 2"):
        SegmentPlan(steps=4, encoder_steps=2, image_steps=3).check()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model's configuration with a smaller picture."""
    import visiontk

    bundled = Path(visiontk.__file__).parent / "weights" / "tiny-sam2" / "config.yaml"
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(bundled.read_text().replace("image_size: 128", "image_size: 64").replace("feat_sizes: [16, 16]", "feat_sizes: [8, 8]"))
    return path


def trained(config: Path, folder: Path, stop_after: int | None = None, **options: Any) -> Any:
    """What the first four steps of a plan come to, stopped as Ctrl-C does after so many."""
    from visiontk.runtime import Runtime
    from visiontk.training.segment_run import Training

    plan = SegmentPlan(config=str(config), steps=4, encoder_steps=0, image_steps=2, images=2, clips=1, frames=3, objects=2, seed=5)
    training = Training(replace(plan, **options), Runtime(device="cpu", dtype="fp32", threads=1, seed=5).start())
    assert course(training, 4, folder, stop_after).step == 4
    return training.average


def test_encoder_steps_move_the_encoder_and_what_enlarges_its_map_and_nothing_else(config: Path) -> None:
    from visiontk.runtime import Runtime
    from visiontk.training.segment_run import Training

    plan = SegmentPlan(config=str(config), steps=3, encoder_steps=2, image_steps=1, images=2, seed=5)
    training = Training(plan, Runtime(device="cpu", dtype="fp32", threads=1, seed=5).start())
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    found = [training.advance(step) for step in range(2)]
    assert [sorted(line) for line in found] == [["known", "loss"]] * 2
    encoder = ("image_encoder.", "sam_mask_decoder.conv_s", "sam_mask_decoder.output_upscaling.")
    moved = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith(encoder) for name in moved)
    assert any(name.startswith(encoder[2]) for name in moved)
    assert any(name.startswith("image_encoder.trunk.patch_embed") for name in moved)
    assert sorted(training.advance(2)) == ["iou", "loss"]


def test_the_first_steps_of_a_trained_model_move_the_heads_and_nothing_of_the_model(config: Path, tiny_sam2: Path) -> None:
    from visiontk.runtime import Runtime
    from visiontk.training.segment_run import HEADS_LR, Training

    plan = SegmentPlan(model=str(tiny_sam2), config=str(config), steps=20, image_steps=0, images=2, clips=1, frames=3, seed=5)
    training = Training(plan, Runtime(device="cpu", dtype="fp32", threads=1, seed=5).start())
    assert plan.heads_alone == 2

    def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in module.named_parameters()}

    before, heads = weights(training.model), weights(training.hint)
    for step in range(2):
        assert training.rate(step) == HEADS_LR and sorted(training.advance(step)) == ["iou", "loss"]
    assert all(torch.equal(value, before[name]) for name, value in training.model.named_parameters())
    assert not any(torch.equal(value, heads[name]) for name, value in training.hint.named_parameters())
    assert training.rate(2) == training.learner.rate(0) and training.rate(19) == training.learner.rate(17)
    training.advance(2)
    moved = [name for name, value in training.model.named_parameters() if not torch.equal(value, before[name])]
    assert any(name.startswith("image_encoder.trunk.patch_embed") for name in moved)


def test_a_batch_that_shows_nothing_at_first_still_teaches_the_encoder(config: Path) -> None:
    from visiontk.runtime import Runtime
    from visiontk.training.segment_run import Training
    from visiontk.training.segment_track import track

    training = Training(SegmentPlan(config=str(config), steps=3), Runtime(device="cpu", dtype="fp32", threads=1).start())
    batch = segment_clips.render_batch(3, range(2), 2, int(training.model.image_size), 2, dyed=False)
    batch = replace(batch, masks=batch.masks[:, :0], clip_of=batch.clip_of[:0])
    passed = track(training.model, batch, Prompting("point", (0, 1), 1), training.hint)
    torch.autograd.backward(passed.loss)
    patches = training.model.image_encoder.trunk.patch_embed.proj.weight
    assert float(passed.loss.detach()) > 1 and float(passed.iou) == 1 and patches.grad is not None and patches.grad.any()


@pytest.mark.parametrize("kind", ["point", "box", "mask"])
def test_objects_are_prompted_as_asked_and_corrected_where_the_answer_is_wrong(
    kind: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visiontk.runtime import Runtime
    from visiontk.training import segment_track
    from visiontk.training.segment_run import Training

    model: Any = Training(SegmentPlan(config=str(config), steps=3), Runtime(device="cpu", dtype="fp32", threads=1, seed=5).start()).model
    batch = segment_clips.render_batch(3, range(4), 3, 64, 2, dyed=False)
    given: list[Any] = []
    asked: list[Any] = []
    corrected: list[Any] = []
    step, heads, correct = model._track_step, model._forward_sam_heads, segment_track._correct

    def watched_step(*arguments: Any) -> Any:
        given.append(arguments[5:7])
        return step(*arguments)

    def watched_heads(*arguments: Any, **named: Any) -> Any:
        asked.append(named.get("point_inputs"))
        return heads(*arguments, **named)

    def watched_correct(points: Any, target: Any, logits: Any) -> Any:
        corrected.append((target, logits > 0, correct(points, target, logits)))
        return corrected[-1][2]

    monkeypatch.setattr(model, "_track_step", watched_step)
    monkeypatch.setattr(model, "_forward_sam_heads", watched_heads)
    monkeypatch.setattr(segment_track, "_correct", watched_correct)
    torch.manual_seed(2)
    segment_track.track(model, batch, Prompting(kind, (1,), 2))
    target, (points, masks) = batch.masks[0], given[0]
    assert given[1:] == [(None, None)] * 2, "only the first frame is prompted"
    if kind == "mask":
        assert points is None and torch.equal(masks, target[:, None].float())
    elif kind == "point":
        assert masks is None and points["point_labels"].tolist() == [[1]] * len(target)
        assert all(mask[tuple(place.long().flip(0))] for mask, place in zip(target, points["point_coords"][:, 0], strict=True))
    else:
        assert masks is None and points["point_labels"].tolist() == [[2, 3]] * len(target)
        for mask, found in zip(target, points["point_coords"], strict=True):
            ys, xs = mask.nonzero().T
            sides = torch.stack([xs.max() - xs.min(), ys.max() - ys.min()]).repeat(2)
            edges = torch.stack([xs.min(), ys.min(), xs.max(), ys.max()])
            assert ((found.flatten() - edges).abs() <= 0.1 * sides + 2).all(), "about its edges"
    assert len(corrected) == 2 and all(any(made is one for one in asked) for *_, made in corrected)
    for number, (truth, said, made) in enumerate(corrected, 1):
        assert torch.equal(truth, batch.masks[1]) and made["point_labels"].shape[1] == number
        for row, (place, label) in enumerate(zip(made["point_coords"][:, -1].long(), made["point_labels"][:, -1], strict=True)):
            x, y = place.tolist()
            assert bool(label) == bool(truth[row, y, x])
            assert bool(said[row, 0, y, x]) != bool(truth[row, y, x]) or torch.equal(said[row, 0], truth[row])


def test_a_line_tells_of_one_kind_of_step(tmp_path: Path) -> None:
    """With lines of four steps, six of the encoder come before those with prompts."""

    class Counting:
        def rate(self, step: int) -> float:
            return 1.0

        def advance(self, step: int) -> dict[str, float]:
            return {"loss": 1.0, "known": 0.5} if step < 6 else {"loss": 3.0, "iou": 0.25}

        def state(self) -> dict[str, Any]:
            return {}

        def restore(self, state: dict[str, Any]) -> None: ...

    assert course(Counting(), 800, tmp_path).log_every == 4
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    told = [(line["step"], {name: line["train"].get(name) for name in ("loss", "known", "iou")}) for line in lines]
    first, second = {"loss": 1.0, "known": 0.5, "iou": None}, {"loss": 3.0, "known": None, "iou": 0.25}
    assert told[:4] == [(4, first), (6, first), (8, second), (12, second)] and len(told) == 201


def test_a_run_that_was_stopped_comes_to_the_same_weights(config: Path, tmp_path: Path) -> None:
    whole = trained(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(config, tmp_path / "stopped", stop_after=3)
    again = trained(config, tmp_path / "stopped")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    lines = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("whole", "stopped")]
    assert [(line["step"], line["train"]["loss"], line["train"]["iou"]) for line in lines[0]] == [
        (line["step"], line["train"]["loss"], line["train"]["iou"]) for line in lines[1]
    ]
    assert [line["step"] for line in lines[0]] == [1, 2, 3, 4]


def test_a_run_that_was_stopped_while_the_heads_learned_comes_to_the_same_weights(config: Path, tiny_sam2: Path, tmp_path: Path) -> None:
    further: dict[str, Any] = {"model": str(tiny_sam2), "steps": 20, "image_steps": 0}
    whole = trained(config, tmp_path / "whole", **further)
    with pytest.raises(KeyboardInterrupt):
        trained(config, tmp_path / "stopped", stop_after=1, **further)
    again = trained(config, tmp_path / "stopped", **further)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_checkpoint_of_another_make_is_refused_in_one_line(config: Path, tmp_path: Path) -> None:
    trained(config, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    del state["trained"]["network"]["1.head.0.weight"]
    torch.save(state, last)
    with pytest.raises(UsageError, match=r"last\.pt does not fit this version of visiontk; remove it"):
        trained(config, tmp_path / "run")


def test_training_goes_on_from_a_models_own_weights(tiny_sam2: Path) -> None:
    from safetensors.torch import load_file

    from visiontk.training.segment_output import build

    held = load_file(tiny_sam2 / "model.safetensors")
    state = build(SegmentPlan(model=str(tiny_sam2))).model.state_dict()
    assert state.keys() == held.keys() and all(torch.equal(state[name], value.float()) for name, value in held.items())


def test_another_configuration_takes_over_the_weights_that_fit(tiny_sam2: Path, tmp_path: Path) -> None:
    """A wider memory than the model's: what reads and writes it is new, and the rest is the model's."""
    from safetensors.torch import load_file

    from visiontk.training.segment_output import build, config_file

    parts = read_config(tiny_sam2 / "config.yaml")
    width = 2 * parts["memory_encoder"]["out_dim"]
    parts["memory_encoder"]["out_dim"] = parts["memory_encoder"]["position_encoding"]["num_pos_feats"] = width
    parts["memory_attention"]["layer"]["cross_attention"]["kv_in_dim"] = width
    wider = tmp_path / "wider.yaml"
    wider.write_text(json.dumps({"model": parts}))  # which is YAML too
    plan = SegmentPlan(model=str(tiny_sam2), config=str(wider))
    plan.check()
    assert config_file(plan) == wider
    held = load_file(tiny_sam2 / "model.safetensors")
    made = build(plan)
    state = made.model.state_dict()
    new = {name for name, value in state.items() if value.shape != held[name].shape}
    assert "maskmem_tpos_enc" in new and state["maskmem_tpos_enc"].shape[-1] == width
    assert all(name.startswith(("memory_", "maskmem_", "obj_ptr", "no_obj_embed")) for name in new)
    assert all(torch.equal(value, held[name].float()) for name, value in state.items() if name not in new)
    sizes = {name: value.numel() for name, value in state.items()}
    assert made.taken == pytest.approx(1 - sum(sizes[name] for name in new) / sum(sizes.values())) and 0.5 < made.taken < 1


def test_the_example_of_a_configuration_takes_over_nearly_all_of_the_bundled_model() -> None:
    from visiontk.runtime import Runtime
    from visiontk.training.segment_run import Training

    example = Path(__file__).parents[1] / "examples" / "coarse-sam2.yaml"
    training = Training(SegmentPlan(model="tiny-sam2", config=str(example)), Runtime(device="cpu", dtype="fp32", threads=1).start())
    assert 0.94 < training.built.taken < 1
    training.try_out()
    assert training.model.sam_prompt_encoder.image_embedding_size == (8, 8)


def test_a_model_that_is_not_what_its_configuration_says_is_refused(run: Run, tiny_sam2: Path, tmp_path: Path) -> None:
    parts = read_config(tiny_sam2 / "config.yaml")
    parts["image_encoder"]["trunk"]["embed_dim"] = 24
    parts["image_encoder"]["neck"]["backbone_channel_list"] = [192, 96, 48, 24]
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text(json.dumps({"model": parts}))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_bytes(narrow.read_bytes())
    (broken / "model.safetensors").write_bytes((tiny_sam2 / "model.safetensors").read_bytes())
    result = run("train", "segment", "tiny", "--model", str(broken), "--steps", "1", "-o", "out")
    assert result.code == 4 and "do not fit its configuration" in result.error and not Path("out").exists()
    result = run("train", "segment", "tiny", "--model", str(tiny_sam2), "--config", str(narrow), "--steps", "1", "-o", "out")
    assert result.code == 2 and "nothing of the encoder" in result.error and "leave --model out" in result.error
    result = run("train", "segment", "tiny", "--config", "nowhere.yaml", "--steps", "1", "-o", "out")
    assert result.code == 2 and "there is no file nowhere.yaml" in result.error


@pytest.mark.parametrize("changed", [{"backbone_stride": 16}, {"kv_in_dim": 24}, {"total_stride": 16}])
def test_sizes_that_do_not_go_together_are_found_before_the_first_step(
    run: Run, config: Path, tmp_path: Path, changed: dict[str, int]
) -> None:
    parts = read_config(config)
    inner = parts["memory_attention"]["layer"]["cross_attention"] if "kv_in_dim" in changed else parts
    inner = parts["memory_encoder"]["mask_downsampler"] if "total_stride" in changed else inner
    inner.update(changed)
    own = tmp_path / "own.yaml"
    own.write_text(json.dumps({"model": parts}))
    result = run("train", "segment", "tiny", "--config", str(own), "--steps", "2", "--encoder-steps", "2", "-o", "out")
    assert result.code == 4 and f"the sizes in {own} do not go together" in result.error and not Path("out").exists()


def test_a_run_leaves_a_model_that_segments_with_its_card_and_curves(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.training import segment_run
    from visiontk.training.segment_measure import Counts, measure

    def little(model: str, runtime: Runtime) -> Any:
        return measure(model, runtime, Counts(pictures=1, clips=1, frames=4))

    monkeypatch.setattr(segment_run, "measure", little)
    command = ["train", "segment", "tiny", "--steps", "4", "--encoder-steps", "1", "--image-steps", "1", "--images", "2"]
    command += ["--clips", "1", "--frames", "2", "--threads", "1", "--half"]
    done = run(*command, "-o", "out")
    assert done.code == 0, done.stderr
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    card = Path("out/README.md").read_text("utf-8")
    assert "visiontk train segment tiny --steps 4 --encoder-steps 1 --image-steps 1" in card and "--half" in card
    assert "on 100 fresh pictures and 100 fresh clips of 24 frames" in card
    for name, found in done.records[-1]["figures"].items():
        assert f"| {found['training']:.3f} | {found['held_out']:.3f} |" in card, name
    with Image.open("out/curves.png") as curves:
        assert curves.width > curves.height > 100
    weights = load_file("out/model.safetensors")
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float16}
    Image.new("RGB", (40, 30), (200, 30, 30)).save("a.png")
    answered = run("segment", "a.png", "-p", "point", "-m", "out")
    assert answered.code == 0 and answered.records[0]["segment"]["model"] == "out"
    assert answered.records[0]["segment"]["objects"][0]["rle"]["size"] == [30, 40]


def test_nothing_to_write_to_is_said_at_once(run: Run) -> None:
    result = run("train", "segment", "tiny")
    assert result.code == 2 and "pass -o DIR" in result.stderr
    result = run("train", "segment", "photos", "-o", "x")
    assert result.code == 2 and "use tiny" in result.stderr


def test_another_architecture_under_the_same_name_makes_another_run(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visiontk.training.steps import Run as Course

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Course, "train", stop)
    own = tmp_path / "own.yaml"
    own.write_bytes(config.read_bytes())
    command = ["train", "segment", "tiny", "--config", str(own), "--steps", "4", "-o", "out"]
    assert run(*command).code == 130 and run(*command).code == 130
    own.write_text(own.read_text() + "\n# changed\n")
    other = run(*command)
    assert other.code == 2 and "config_sha256 was sha256:" in other.error


def test_a_small_model_is_trained_in_float32_on_a_cpu_unless_told_otherwise(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visiontk.training.steps import Run as Course

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Course, "train", stop)
    monkeypatch.setattr("visiontk.runtime.multiplies_bf16_fast", lambda device: True)
    command = ["train", "segment", "tiny", "--config", str(config), "--steps", "4", "--device", "cpu"]
    for out, options, dtype in (("a", [], "fp32"), ("b", ["--dtype", "bf16"], "bf16")):
        assert run(*command, *options, "-o", out).code == 130
        assert json.loads(Path(out, "run.json").read_text())["dtype"] == dtype
