"""`visiontk train lvm`: what the sentences are, how the networks start and are judged, and that a stopped run comes to the same weights."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.training_runs import course
from visiontk.errors import ModelUnavailable, UsageError
from visiontk.media.sentence_tasks import MASK_COLOURS
from visiontk.tiny import world
from visiontk.training import lvm_learn, lvm_llama, lvm_measure, lvm_vqgan, lvm_world
from visiontk.training.chance import derive
from visiontk.training.learner import Learner
from visiontk.training.lvm_codes import Codebook, nearest
from visiontk.training.lvm_llama import distances
from visiontk.training.lvm_plan import LvmPlan
from visiontk.training.lvm_world import sentences

if TYPE_CHECKING:
    from tests.conftest import Run

PLAN = LvmPlan(vqgan_steps=2, decoder_steps=2, steps=2, codes=32, batch=1, vqgan_batch=2, seed=3)
ALL_STEPS = 6


FOLLOWING = {"error": 1, "repeated": 2, "repeated_coded": 3, "factor": 4, "coded_factor": 3}
FIGURES: dict[str, Any] = {
    "reconstruction": {"psnr": 1, "pooled": 1, "codes": 2},
    "mask analogies": {"miou": 0.5, "things": 0.4, "background": 0.6},
    "colour analogies": {"error": 0.02, "asked": 0.04, "coded": 0.01},
    "inpainting": {"error": 0.03, "asked": 0.3, "coded": 0.02},
    "next frame": FOLLOWING,
    "next frame before photos": FOLLOWING,
    "frames ahead": {"1": 4.0, "2": 3.0, "3": 2.0, "4": 1.5},
    "frames ahead, coded": {"1": 1.4, "2": 1.3, "3": 1.2, "4": 1.1},
    "perplexity of clips": {"1": 3, "15": 2},
    "perplexity of answers": {"1": 3, "15": 2},
    "perplexity of last frames": {"1": 3, "15": 2},
}

pytestmark = pytest.mark.usefixtures("one_thread")


def started() -> Any:
    from visiontk.runtime import Runtime

    return Runtime(device="cpu", dtype="fp32", threads=1, seed=3).start()


@pytest.fixture(scope="module")
def parts() -> lvm_learn.Parts:
    return lvm_learn.new_parts(64, seed=3)


def test_a_sentence_is_named_by_its_seed_and_index() -> None:
    together, alone = sentences(5, range(12), 32), sentences(5, [7], 32)
    assert torch.equal(together.frames[7], alone.frames[0]) and together.kinds[7] == alone.kinds[0]
    assert not torch.equal(sentences(6, [7], 32).frames, alone.frames)
    assert together.frames.shape == (12, 16, 3, 32, 32) and together.masks.shape == (12, 16, 32, 32)


def test_kinds_come_as_often_as_they_should() -> None:
    kinds = sentences(5, range(400), 16, 2).kinds
    for name, share in zip(lvm_world.KINDS, lvm_world.SHARES, strict=True):
        assert kinds.count(name) / 400 == pytest.approx(share, abs=0.08)


def test_masks_are_exact_and_the_palette_is_the_same_all_through_a_sentence() -> None:
    drawn = sentences(5, range(6), 32, kind="mask")
    colours = set(MASK_COLOURS)
    for frames, masks, palette in zip(drawn.frames, drawn.masks, drawn.palettes, strict=True):
        behind, things = (tuple(colour) for colour in palette.tolist())
        assert behind != things and {behind, things} <= colours
        for answer, mask in zip(frames[1::2], masks[1::2], strict=True):
            pixels = answer.permute(1, 2, 0)
            assert {tuple(pixel) for pixel in pixels[mask].tolist()} == {things}
            assert {tuple(pixel) for pixel in pixels[~mask].tolist()} == {behind}
    numbers = [5 * lvm_world.FRAMES + pair for pair in range(8)]  # the pictures of the last sentence
    scenes = world.render_scenes(5, numbers, size=32, objects=lvm_world.OBJECTS, backgrounds=lvm_world.BACKGROUNDS)
    assert torch.equal(drawn.frames[5, ::2], scenes.images)
    assert torch.equal(drawn.masks[5, 1::2], scenes.masks.any(1)) and torch.equal(drawn.masks[5, ::2], drawn.masks[5, 1::2])
    assert len({tuple(palette.flatten().tolist()) for palette in drawn.palettes}) > 1


def test_greyscale_is_the_luma_and_the_answer_has_the_colours() -> None:
    drawn = sentences(5, range(4), 32, kind="colour")
    asked, answers = drawn.frames[:, ::2], drawn.frames[:, 1::2]
    assert torch.equal(asked[:, :, 0], asked[:, :, 1]) and torch.equal(asked[:, :, 0], asked[:, :, 2])
    luma = 0.2989 * answers[:, :, 0].double() + 0.587 * answers[:, :, 1].double() + 0.114 * answers[:, :, 2].double()
    assert float((asked[:, :, 0].double() - luma).abs().max()) <= 0.51


def test_a_black_square_of_a_tenth_to_half_of_the_side_is_filled() -> None:
    drawn = sentences(5, range(8), 64, kind="inpaint")
    sides = []
    for asked, answer in zip(drawn.frames[:, ::2].flatten(0, 1), drawn.frames[:, 1::2].flatten(0, 1), strict=True):
        changed = (asked != answer).any(0)
        assert not asked[:, changed].any()
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        if len(rows):
            sides.append(max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1)
    assert min(sides) >= 1 and max(sides) <= 32 and len(set(sides)) > 10


def test_a_clip_shows_each_so_manyth_frame_of_the_worlds() -> None:
    drawn = sentences(5, range(9), 32, kind="clip")
    assert set(drawn.strides.tolist()) == set(lvm_world.STRIDES)
    place = drawn.strides.tolist().index(4)
    clip = world.render_clips(5, [place], 61, size=32, objects=lvm_world.OBJECTS, backgrounds=lvm_world.BACKGROUNDS, leaves=0.1, passes=0.1)
    assert torch.equal(drawn.frames[place], clip.frames[0, ::4])
    assert torch.equal(drawn.masks[place], clip.index_masks[0, ::4] > 0)


def test_the_vqgan_begins_as_means_that_pass_through(parts: lvm_learn.Parts) -> None:
    truth = lvm_learn.pictures(6, range(12))
    with torch.no_grad():
        latents = parts.vqgan.encode(truth).latents
        made = parts.vqgan.decoder(parts.vqgan.post_quant_conv(latents))
    assert latents.shape == (24, 16, 8, 8) and made.shape == truth.shape
    means = torch.nn.functional.avg_pool2d(truth, 8)
    for channel in range(3):
        assert np.corrcoef(latents[:, channel].flatten().numpy(), means[:, channel].flatten().numpy())[0, 1] > 0.99
    assert -10 * float((made - truth).square().mean().log10()) > 16


def test_the_vqgan_sees_principal_components_of_each_place_alone(parts: lvm_learn.Parts) -> None:
    """A linear decoder of the latents is as good as that of 16 principal components of 8 x 8 pixels, nearly, and far better than means."""
    vqgan = copy.deepcopy(parts.vqgan)
    drawn = lvm_learn.pictures(6, range(150))
    lvm_vqgan.see(vqgan.encoder, drawn[:200])
    with torch.no_grad():
        latents = vqgan.encode(drawn).latents
    patches = drawn.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3)

    def quality(seen: torch.Tensor) -> float:
        seen = torch.cat([seen, torch.ones(*seen.shape[:3], 1)], 3)
        decoder = torch.linalg.lstsq(seen[:200].flatten(0, 2), patches[:200].flatten(0, 2)).solution
        return -10 * math.log10(float((seen[200:] @ decoder - patches[200:]).square().mean()))

    mean = patches[:200].flatten(0, 2).mean(0)
    basis = torch.linalg.svd(patches[:200].flatten(0, 2) - mean, full_matrices=False)[2][:16]
    rows = latents.permute(0, 2, 3, 1)
    assert quality(rows) > quality(rows[..., :3]) + 3 and quality(rows) > quality((patches - mean) @ basis.T) - 0.7
    other = drawn[:1].clone()
    other[:, :, :, 32:] = 1 - other[:, :, :, 32:]
    with torch.no_grad():
        moved = (vqgan.encode(other).latents - latents[:1]).abs()
    assert float(moved[..., :4].max()) < 0.02 < float(moved[..., 4:].max())


def test_rates_go_down_with_the_number_of_inputs() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 2))
    learner = Learner(network, PLAN, torch.device("cpu"), lr=0.5, steps=1, lr_scale=lambda name, value: value[0].numel())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    learner.update(sum((value.sum() for value in network.parameters()), torch.zeros(())), 0)
    # The first step of Adam is as long as the rate.
    moved = {name: float((before[name] - value).mean()) for name, value in network.state_dict().items()}
    assert moved == pytest.approx({"0.weight": 2.0, "0.bias": 0.5, "1.weight": 1.0, "1.bias": 0.5}, rel=1e-4)
    scales = [
        lvm_vqgan.lr_scale(name, torch.zeros(8, 4, 3, 3)) for name in ("decoder.mid.resnets.0.conv1.weight", "encoder.conv_in.weight")
    ]
    assert scales == pytest.approx([100 / 36, 0.1 * 20 / 36])


def test_matrices_between_embedding_and_logits_learn_in_all_directions_alike() -> None:
    """Muon's steps: orthogonal, whatever the sizes of the gradient's directions, and by root mean square 0.2 of three times the rate."""
    llama = lvm_learn.new_parts(32, seed=3).llama
    names = [name for name, value in llama.named_parameters() if lvm_llama.is_hidden(name, value)]
    kinds = {name.split(".")[-2] for name in names}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"} and len(names) == 7 * lvm_llama.LAYERS
    hidden, head = torch.nn.Linear(32, 16, bias=False), torch.nn.Linear(16, 4, bias=False)
    network = torch.nn.ModuleDict({"hidden": hidden, "head": head})
    plan = replace(PLAN, weight_decay=0.0, clip=1e9)
    learner = Learner(network, plan, torch.device("cpu"), lr=0.01, steps=1, by_muon=lambda name, _: name.startswith("hidden"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    slopes = torch.diag(10.0 ** (-torch.arange(16.0) / 8)) @ torch.linalg.qr(torch.randn(32, 32))[0][:16]
    learner.update((hidden.weight * slopes).sum() + head.weight.sum(), 0)
    moved = {name: before[name] - value for name, value in network.state_dict().items()}
    sizes = torch.linalg.svdvals(moved["hidden.weight"])
    assert float(sizes.max() / sizes.min()) < 2, "of the gradient's the largest is 75 times the smallest"
    assert float(moved["hidden.weight"].square().mean().sqrt()) == pytest.approx(0.2 * 3 * 0.01, rel=0.2)
    assert float(moved["head.weight"].mean()) > 0 and float(moved["head.weight"].std()) < 1e-6, "the head learns as ever"
    state = learner.state()
    again = Learner(network, plan, torch.device("cpu"), lr=0.01, steps=1, by_muon=lambda name, _: name.startswith("hidden"))
    again.restore(state)
    for held, kept in zip(again.state()["optimisers"], state["optimisers"], strict=True):
        assert held["state"].keys() == kept["state"].keys() != set()


def test_the_vqgan_of_another_run_is_taken_as_it_is(tmp_path: Path, whole: tuple[Path, lvm_learn.Parts]) -> None:
    from visiontk.training.lvm_output import write_model

    (tmp_path / "first").mkdir()
    write_model(whole[1], tmp_path / "first")
    plan = replace(PLAN, vqgan_steps=0, decoder_steps=0, vqgan=str(tmp_path / "first"))
    plan.check()
    training = lvm_learn.Training(plan, started(), lvm_learn.new_parts(plan.codes, plan.vqgan, seed=3))
    assert course(training, 2, tmp_path / "second").step == 2
    found = training.finished().vqgan.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in whole[1].vqgan.state_dict().items())
    learned = training.finished().llama.state_dict()
    assert all(torch.equal(value, learned[name]) for name, value in whole[1].llama.state_dict().items()), "as in one run of both"
    assert training.vqgan is None, "nothing is there to learn with"
    again = lvm_learn.Training(plan, started(), lvm_learn.new_parts(plan.codes, plan.vqgan, seed=3))
    with torch.no_grad():
        again.parts.vqgan.encoder.conv_in.weight.zero_()
    again.restore(training.state())
    assert torch.equal(again.finished().vqgan.encoder.conv_in.weight, found["encoder.conv_in.weight"])
    assert f"--vqgan-steps 0 --vqgan {tmp_path / 'first'}" in plan.command("second", "fp32")
    with pytest.raises(UsageError, match="has 32 codes, 64 pixels and 64 tokens a frame, and not 64, 64 and 64"):
        lvm_learn.new_parts(64, plan.vqgan, seed=3)
    alone = lvm_learn.new_parts(plan.codes, f"{plan.vqgan}/vqgan", seed=3).vqgan.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in alone.items()), "the VQGAN's own folder will do"
    with pytest.raises(ModelUnavailable, match=r"first/llama has no channel_mult and sizes of open-muse's"):
        lvm_learn.new_parts(plan.codes, f"{plan.vqgan}/llama", seed=3)
    for wrong in (replace(plan, vqgan_steps=1), replace(PLAN, vqgan_steps=0)):
        with pytest.raises(UsageError, match="--vqgan-steps"):
            wrong.check()


def test_a_decoder_learns_alone_what_the_codes_of_pictures_stand_for(tmp_path: Path, whole: tuple[Path, lvm_learn.Parts]) -> None:
    """Of a model that is there: codes and language model stay as they are, and pictures are nearer to the truth in decibels."""
    from visiontk.training.lvm_output import card, write_model

    (tmp_path / "first").mkdir()
    write_model(whole[1], tmp_path / "first")
    plan = replace(PLAN, model=str(tmp_path / "first"), vqgan_steps=0, decoder_steps=12, steps=0, warmup=0, vqgan_batch=8)
    plan.check()
    training = lvm_learn.Training(plan, started(), lvm_learn.new_parts(plan.codes, model=plan.model, seed=3))
    assert [training.rate(step) for step in (0, 6)] == pytest.approx([plan.vqgan_lr, plan.vqgan_lr / 2])
    assert course(training, 12, tmp_path / "second").step == 12
    found = training.finished()
    for part, after in (("vqgan", ("decoder.", "post_quant_conv.")), ("llama", ())):
        before = getattr(whole[1], part).state_dict()
        changed = {name for name, value in getattr(found, part).state_dict().items() if not torch.equal(value, before[name])}
        assert all(name.startswith(after) for name in changed) and bool(changed) == bool(after), part
    drawn = lvm_learn.pictures(11, range(16))

    def decibels(vqgan: Any) -> float:
        with torch.no_grad():
            made = vqgan.decode(vqgan.encode(drawn).latents).sample
        return float((-10 * (made - drawn).square().mean((1, 2, 3)).log10()).mean())

    assert decibels(found.vqgan) > decibels(whole[1].vqgan) + 0.1
    text = card("second", plan, FIGURES, seconds=60, device="a CPU", dtype="fp32")
    assert f"those of {plan.model}. 12 steps of 8 pictures for its decoder alone by AdamW, learning rate 0.001. Each" in text


def test_a_models_llama_is_trained_further_from_where_it_stands(tmp_path: Path, whole: tuple[Path, lvm_learn.Parts]) -> None:
    from visiontk.training.lvm_output import card, write_model

    (tmp_path / "first").mkdir()
    write_model(whole[1], tmp_path / "first")
    before = {name: value.clone() for name, value in whole[1].llama.state_dict().items()}
    plan = replace(PLAN, model=str(tmp_path / "first"), vqgan_steps=0, decoder_steps=0, lr=1e-3, warmup=0)
    plan.check()
    training = lvm_learn.Training(plan, started(), lvm_learn.new_parts(plan.codes, model=plan.model, seed=3))
    assert all(torch.equal(value, before[name]) for name, value in training.llama.network.state_dict().items())
    assert course(training, 2, tmp_path / "second").step == 2
    found = training.finished()
    assert all(torch.equal(value, whole[1].vqgan.state_dict()[name]) for name, value in found.vqgan.state_dict().items())
    moved = {name: float((value - before[name]).square().mean().sqrt()) for name, value in found.llama.state_dict().items()}
    assert all(0 < distance < 3e-3 for distance in moved.values()), "two steps of about 0.001 at most, and no new start"
    with pytest.raises(UsageError, match="has 32 codes"):
        lvm_learn.new_parts(64, model=plan.model, seed=3)
    config = json.loads((tmp_path / "first" / "llama" / "config.json").read_text())
    short = config | {"max_position_embeddings": 15 * 64}
    (tmp_path / "first" / "llama" / "config.json").write_text(json.dumps(short))
    with pytest.raises(UsageError, match="has room for 15 frames, and the sentences here have 16"):
        lvm_learn.new_parts(plan.codes, model=plan.model, seed=3)
    for wrong in (replace(plan, vqgan_steps=1), replace(plan, vqgan=plan.model)):
        with pytest.raises(UsageError, match="--model brings its own VQGAN"):
            wrong.check()
    text = card("second", plan, FIGURES, seconds=60, device="a CPU", dtype="bf16")
    assert f"those of {plan.model}. Its LLaMA was trained further, 2 steps of 1 sentences" in text and f"--model {plan.model}" in text
    assert f"trained on from {plan.model} on visual sentences" in text and "-o second --dtype bf16" in text


def test_k_means_finds_what_is_there_and_idle_codes_begin_anew() -> None:
    torch.manual_seed(0)
    vqgan = type("Stub", (), {"quantize": torch.nn.Module()})()
    vqgan.quantize.embedding = torch.nn.Embedding(8, 2)
    codebook = Codebook(vqgan)
    centres = torch.tensor([[x, y] for x in (0.0, 10.0) for y in (0.0, 10.0)])
    latents = centres.repeat(50, 1) + 0.01 * torch.randn(200, 2)
    codebook.begin(latents, 200)
    assert float(torch.cdist(centres, codebook.weight).amin(1).max()) < 0.1
    far = torch.tensor([[100.0, 100.0]]).repeat(64, 1)
    anew = 0
    for _ in range(400):
        anew += codebook.update(far, nearest(far, codebook.weight))
    # What nothing takes any more goes where something is.
    assert anew >= 7 and float(torch.cdist(far[:1], codebook.weight).max()) < 1


def test_codes_follow_the_mean_of_what_took_them() -> None:
    vqgan = type("Stub", (), {"quantize": torch.nn.Module()})()
    vqgan.quantize.embedding = torch.nn.Embedding(1, 2)
    codebook = Codebook(vqgan)
    latents = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    for _ in range(400):
        codebook.update(latents, torch.zeros(2, dtype=torch.long))
    assert codebook.weight[0].tolist() == pytest.approx([2.0, 4.0], abs=1e-3)


def test_heads_begin_by_looking_at_their_distances(parts: lvm_learn.Parts) -> None:
    """The attention of transformers' own forward pass, at the last of 300 tokens, peaks where the distance says."""
    torch.manual_seed(1)
    tokens = torch.randint(0, 64, (1, 300))
    parts.llama.set_attn_implementation("eager")
    with torch.no_grad():
        found = parts.llama(input_ids=tokens, output_attentions=True).attentions
    parts.llama.set_attn_implementation("sdpa")
    for layer, wanted in enumerate(distances(8)):
        for head, distance in enumerate(wanted):
            weights = found[layer][0, head, -1]
            assert abs(int(weights.argmax()) - (300 - distance)) <= 1 and float(weights[300 - distance]) > 0.2


def test_the_llama_begins_by_repeating_the_frame_before(parts: lvm_learn.Parts) -> None:
    torch.manual_seed(1)
    frame = torch.randint(0, 64, (1, 64))
    with torch.no_grad():
        logits = parts.llama(input_ids=frame.repeat(1, 4)).logits[0, 64:-1]
    assert float((logits.argmax(-1) == frame.repeat(1, 3)[0, 1:]).float().mean()) > 0.8
    assert float(torch.nn.functional.cross_entropy(logits, frame.repeat(1, 3)[0, 1:])) < 0.6 * math.log(64)
    config = parts.llama.config
    assert config.eos_token_id is None and config.bos_token_id is None and config.pad_token_id is None
    assert config.max_position_embeddings == 1024 and config.vocab_size == 64


def test_the_size_of_the_language_model() -> None:
    assert 5e6 < sum(value.numel() for value in lvm_learn.new_parts(1024, seed=3).llama.parameters()) < 12e6


def trained(folder: Path, stop_after: int | None = None) -> lvm_learn.Parts:
    """What a run of two, two and two steps comes to, stopped as Ctrl-C does after so many."""
    training = lvm_learn.Training(PLAN, started(), lvm_learn.new_parts(PLAN.codes, seed=3))
    assert course(training, ALL_STEPS, folder, stop_after).step == ALL_STEPS
    return training.finished()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, lvm_learn.Parts]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, trained(folder)


@pytest.mark.parametrize("stop", range(1, ALL_STEPS))
def test_a_run_that_was_stopped_comes_to_the_same_weights(tmp_path: Path, whole: tuple[Path, lvm_learn.Parts], stop: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stop_after=stop)
    again = trained(tmp_path)
    for part in ("vqgan", "llama"):
        for name, value in getattr(whole[1], part).state_dict().items():
            assert torch.equal(value, getattr(again, part).state_dict()[name]), (part, name)
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (whole[0], tmp_path)]
    assert [[line["step"], line["train"]["loss"]] for line in lines[0]] == [[line["step"], line["train"]["loss"]] for line in lines[1]]
    assert [line["step"] for line in lines[0]] == [1, 2, 3, 4, 5, 6]
    assert ["psnr" in line["train"] for line in lines[0]] == [True] * 4 + [False] * 2
    assert lines[0][0]["train"]["codes"] >= PLAN.codes / 4
    assert [sorted(line["train"].keys() & {"codes", "psnr"}) for line in lines[0]] == [["codes", "psnr"]] * 2 + [["psnr"]] * 2 + [[]] * 2


def test_each_phase_takes_over_the_averaged_weights_of_the_one_before(tmp_path: Path) -> None:
    training = lvm_learn.Training(PLAN, started(), lvm_learn.new_parts(PLAN.codes, seed=3))
    course(training, ALL_STEPS, tmp_path)
    assert training.vqgan and training.decoder
    found = training.finished().vqgan.state_dict()
    first, second = training.vqgan.average.module.state_dict(), training.decoder.average.module.state_dict()
    for name, value in found.items():
        assert torch.equal(value, second[name] if name in second else first[name]), name
    assert any(not torch.equal(value, first[name]) for name, value in second.items())


def test_a_new_llama_meets_no_photos_and_one_that_goes_on_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        asked.append(tuple(options["backgrounds"]))
        return sentences(*arguments, **options)

    monkeypatch.setattr(lvm_learn, "sentences", watched)
    for model in ("", "there-is-one"):
        training = lvm_learn.Training(
            replace(PLAN, codes=64, vqgan_steps=0, decoder_steps=0, model=model), started(), lvm_learn.new_parts(64, seed=3)
        )
        training.advance(0)
    assert ["photo" in kinds for kinds in asked] == [False, True]


def test_frames_of_which_those_before_say_nothing_weigh_a_fifth() -> None:
    plan = replace(PLAN, codes=64, vqgan_steps=0, decoder_steps=0, batch=4)
    training = lvm_learn.Training(plan, started(), lvm_learn.new_parts(64, seed=3))
    found = float(training._predict(0).detach())
    drawn = sentences(derive(plan.seed, "lvm"), range(plan.batch), 64)
    assert {"clip"} < set(drawn.kinds)
    tokens = lvm_learn.encode(training.parts.vqgan, drawn.frames)
    with torch.no_grad():
        likelihoods = training.llama.network(input_ids=tokens).logits.double().log_softmax(-1)
    weighed = weights = 0.0
    for sentence, kind in enumerate(drawn.kinds):
        for place in range(1, 1024):
            frame = place // 64
            weight = 1.0 if (frame > 0 if kind == "clip" else frame % 2) else 0.2
            weighed -= weight * float(likelihoods[sentence, place - 1, tokens[sentence, place]])
            weights += weight
    assert found == pytest.approx(weighed / weights, rel=1e-4)


@pytest.mark.parametrize("kind", lvm_world.KINDS)
def test_of_a_clip_all_but_the_first_frame_is_foretold_and_of_pairs_the_answers(kind: str) -> None:
    drawn = sentences(5, range(2), 16, 6, kind=kind)
    wanted = [False, True, True, True, True, True] if kind == "clip" else [False, True] * 3
    assert lvm_world.foretold(drawn).tolist() == [wanted, wanted]


def test_the_folder_loads_in_diffusers_transformers_and_the_adapter(tmp_path: Path, whole: tuple[Path, lvm_learn.Parts]) -> None:
    from diffusers import VQModel
    from transformers import LlamaForCausalLM

    from visiontk.adapters.lvm import load
    from visiontk.runtime import Runtime
    from visiontk.training.lvm_output import write_model

    write_model(whole[1], tmp_path)
    vqgan: Any = VQModel.from_pretrained(tmp_path / "vqgan", local_files_only=True)
    llama: Any = LlamaForCausalLM.from_pretrained(tmp_path / "llama", local_files_only=True)
    for made, part in ((vqgan, "vqgan"), (llama, "llama")):
        for name, value in made.state_dict().items():
            assert torch.equal(value, getattr(whole[1], part).state_dict()[name]), (part, name)
    config = llama.generation_config
    assert config.eos_token_id is None and config.bos_token_id is None and config.pad_token_id is None
    model = load(str(tmp_path), Runtime(device="cpu", dtype="fp32"))
    assert (model.image_size, model.frame_tokens, model.codes, model.context_frames) == (64, 64, PLAN.codes, 16)
    drawn = sentences(9, range(2), 64)
    found = model.encode(lvm_measure.pictures(drawn.frames.flatten(0, 1)))
    assert float((found.flatten() == lvm_learn.encode(vqgan, drawn.frames).flatten()).float().mean()) > 0.999


def test_figures_and_film_strips_of_a_folder(tmp_path: Path, whole: tuple[Path, lvm_learn.Parts]) -> None:
    from PIL import Image

    from visiontk.runtime import Runtime
    from visiontk.training.lvm_output import write_model, write_report

    write_model(whole[1], tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes((whole[0] / "metrics.jsonl").read_bytes())
    found = lvm_measure.measure(str(tmp_path), Runtime(device="cpu", dtype="fp32"), lvm_measure.Counts(2, 2, 1))
    frames = sentences(lvm_measure.SEED, range(2), 64).frames.flatten(0, 1)
    with torch.no_grad():
        latents = whole[1].vqgan.encode(lvm_learn.pixels(frames)).latents
        made = whole[1].vqgan.decode(latents).sample.clamp(0, 1)
    errors = (made - frames / 255).square().mean((1, 2, 3))
    assert found["reconstruction"]["psnr"] == pytest.approx(-10 * float(errors.log10().mean()), abs=0.02)
    assert found["reconstruction"]["pooled"] == pytest.approx(-10 * float(errors.mean().log10()), abs=0.02)
    assert found["next frame"]["factor"] == pytest.approx(found["next frame"]["repeated"] / found["next frame"]["error"], rel=0.01)
    ahead = sentences(lvm_measure.SEED + 6, range(2), 64, kind="clip")
    repeated = [
        lvm_measure.area_error(ahead.frames[:, 11], ahead.frames[:, 12 + number], ahead.masks[:, 11] | ahead.masks[:, 12 + number])
        for number in range(4)
    ]
    assert list(found["frames ahead"]) == ["1", "2", "3", "4"] and all(value > 0 for value in found["frames ahead"].values())
    assert found["frames ahead"]["4"] / found["frames ahead"]["1"] == pytest.approx(repeated[3] / repeated[0], rel=0.5)
    shown = whole[1].vqgan(lvm_learn.pixels(ahead.frames[:, 11])).sample.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
    blurred = lvm_measure.area_error(shown, ahead.frames[:, 12], ahead.masks[:, 11] | ahead.masks[:, 12])
    share = found["frames ahead, coded"]["1"] / found["frames ahead"]["1"]
    assert share == pytest.approx(blurred / repeated[0], rel=0.01), "against the last frame as the VQGAN shows it"
    following = found["next frame"]
    assert following["coded_factor"] * following["error"] == pytest.approx(following["repeated_coded"], rel=0.01)
    for task, kind in (("colour analogies", "colour"), ("inpainting", "inpaint")):
        query, truth = sentences(lvm_measure.SEED + 7, range(2), 64, kind=kind).frames[:, -2:].unbind(1)
        differs = (query != truth).any(1, keepdim=True).expand(query.shape)
        asked = ((query.double() - truth.double())[differs] / 255).square().mean()
        assert found[task]["asked"] == pytest.approx(float(asked), abs=1e-4)
        assert found[task]["coded"] > 0
        assert found[task]["error"] > 0
    assert list(found["perplexity of clips"]) == [str(number) for number in range(16)]
    assert all(value >= 1 for value in found["perplexity of clips"].values())
    assert found["perplexity of last frames"]["15"] == pytest.approx(found["perplexity of clips"]["15"], abs=2e-4)
    tokens = lvm_learn.encode(whole[1].vqgan, sentences(lvm_measure.SEED + 3, range(1), 64, kind="clip").frames[:, -2:])
    with torch.no_grad():
        logits = whole[1].llama(input_ids=tokens).logits[0, 63:-1]
    assert found["perplexity of last frames"]["1"] == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, tokens[0, 64:]).exp()), rel=1e-3
    )
    write_report(tmp_path, PLAN, found, seconds=60, started=started())
    card = (tmp_path / "README.md").read_text("utf-8")
    assert f"{found['mask analogies']['miou']:.3f}" in card and "--steps 2 --vqgan-steps 2 --decoder-steps 2 --codes 32" in card
    assert "the pictures of pairs, weighs 0.2 in its loss" in card
    with Image.open(tmp_path / "samples.png") as strips, Image.open(tmp_path / "curves.png") as curves:
        assert strips.size == (2 + 17 * 70, 2 + 12 * 70) and curves.width > curves.height


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ([], (10000, 0, 2400)),
        (["--vqgan", "x"], (0, 0, 2400)),
        (["--model", "x", "--steps", "5"], (0, 0, 5)),
        (["--model", "x", "--steps", "0", "--decoder-steps", "7"], (0, 7, 0)),
        (["--vqgan-steps", "9", "--decoder-steps", "3"], (9, 3, 2400)),
    ],
)
def test_a_vqgan_that_was_there_stays_unless_steps_are_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], steps: tuple[int, int, int]
) -> None:
    asked: list[LvmPlan] = []

    def noted(plan: LvmPlan, *_: Any, **__: Any) -> dict[str, Any]:
        asked.append(plan)
        return {"output": "x", "step": 0, "seconds": 0.0, "figures": FIGURES}

    monkeypatch.setattr("visiontk.training.lvm_run.run", noted)
    run("train", "lvm", "tiny", "-o", "out", *options)
    [plan] = asked
    assert (plan.vqgan_steps, plan.decoder_steps, plan.steps) == steps


def test_a_curve_for_each_phase_there_was() -> None:
    from visiontk.training.lvm_output import curves

    vqgan = [{"step": step, "train": {"loss": 1.0, "psnr": 20.0 + step}} for step in (1, 2)]
    llama = [{"step": step, "train": {"loss": 9.0 - step}} for step in (1, 2)]
    for before in (vqgan, []):
        lines = [*before, *({"step": step + len(before), "train": line["train"]} for step, line in enumerate(llama, 1))]
        *drawn, perplexity = [[line.get_xydata().tolist() for line in axis.lines] for axis in curves(lines, FIGURES, len(before)).axes]  # type: ignore[union-attr]
        assert perplexity == [[[1, 3], [15, 2]]] * 3, "of clips, of their last frames, of answers"
        assert drawn == ([[[[1, 21], [2, 22]]]] if before else []) + [[[[1, 8], [2, 7]]]]


def test_metrics_by_hand() -> None:
    answers = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    answers[0, 0] = torch.tensor([[250, 100], [10, 200]])
    palettes = torch.tensor([[[0, 0, 0], [255, 0, 0]]], dtype=torch.uint8)
    things = lvm_measure.things_of(answers, palettes)
    assert things.tolist() == [[[True, False], [False, True]]]
    truth = torch.tensor([[[True, True], [False, True]]])
    assert lvm_measure.iou(things, truth) == pytest.approx(2 / 3) and lvm_measure.iou(~things, ~truth) == pytest.approx(1 / 2)
    assert lvm_measure.area_error(answers, torch.zeros_like(answers), things) == pytest.approx((250**2 + 200**2) / 255**2 / 3 / 2)
    assert lvm_measure.psnr(torch.tensor([255.0**2 / 100, 255.0**2 / 1000])) == pytest.approx(25)


def test_pictures_go_to_tensors_and_back() -> None:
    frames = sentences(9, [0], 32).frames[0]
    assert torch.equal(lvm_measure.tensor(lvm_measure.pictures(frames)), frames)


def test_options_that_make_no_sense_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="use tiny"):
        LvmPlan(data="photos").check()
    with pytest.raises(UsageError, match="--vqgan-batch 3 is odd"):
        LvmPlan(vqgan_batch=3).check()
    with pytest.raises(UsageError, match="--codes 3 is out of range"):
        LvmPlan(codes=3).check()
    result = run("train", "lvm", "tiny")
    assert result.code == 2 and "pass -o DIR" in result.stderr
    wanted = "visiontk train lvm tiny --steps 7 --codes 512 -o 'a b' --dtype bf16"
    assert LvmPlan(steps=7, codes=512).command("a b", "bf16") == wanted
