"""`visiontk train generate`: the words, what a step computes, how it is judged, and that a stopped run comes to the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tests.training_runs import course
from visiontk.errors import UsageError
from visiontk.tiny import world
from visiontk.tiny.files import picture
from visiontk.training import generate_learn, generate_measure, generate_naming, generate_pictures, generate_words, generate_world
from visiontk.training.chance import seed_everything
from visiontk.training.generate_network import new_parts
from visiontk.training.generate_plan import GeneratePlan

if TYPE_CHECKING:
    from tests.conftest import Run

PLAN = GeneratePlan(vae_steps=2, words_steps=2, steps=2, size=32, batch=4, vae_batch=2, seed=3)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return generate_words.tokenizer()


pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_word_of_the_world_is_one_token_and_others_are_spelled(tokenizer: Any) -> None:
    for text in (*world.names(), *world.COLOURS, *generate_words.captions()[:300]):
        assert len(tokenizer(text).input_ids) == len(text.replace(",", " ,").split()) + 2, text
    spelled = tokenizer("a zyzzyva").input_ids
    assert len(spelled) > 4 and tokenizer.decode(spelled, skip_special_tokens=True).strip() == "a zyzzyva"
    assert max(len(found) for found in tokenizer(list(generate_words.captions())).input_ids) <= generate_words.TOKENS


def test_the_tokenizer_comes_back_from_its_folder(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    again: Any = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    sentences = [*generate_words.captions()[:100], "", "ünknown Wörds!"]
    assert again(sentences).input_ids == tokenizer(sentences).input_ids
    assert again.model_max_length == generate_words.TOKENS


def test_what_is_learned_from_is_one_thing_before_something_calm() -> None:
    scenes = generate_world.scenes(5, range(300), 32)
    assert scenes.labels.shape[1] == 1 and set(scenes.background_kinds) == {"plain", "gradient", "texture"}
    assert scenes.background_kinds.count("plain") / 300 == pytest.approx(4 / 6, abs=0.1)
    dyed = [
        colours[0]
        for colours, label in zip(scenes.colours, scenes.labels[:, 0].tolist(), strict=True)
        if world.things()[label].colour is None
    ]
    assert sum(colour is not None for colour in dyed) / len(dyed) == pytest.approx(generate_world.TINTED, abs=0.07)
    found = generate_world.pixels(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert found.flatten().tolist() == [-1, 1]


def test_calm_things_stand_upright_in_the_middle_and_in_one_style() -> None:
    calm, wild = (generate_world.scenes(5, range(200), 64, calm=calm) for calm in (True, False))
    middles = [(scenes.boxes[:, 0, :2] + scenes.boxes[:, 0, 2:]) / 2 - 32 for scenes in (calm, wild)]
    assert middles[0].abs().mean() < 3 < middles[1].abs().mean()
    sides = [(scenes.boxes[:, 0, 2:] - scenes.boxes[:, 0, :2]).amax(1) for scenes in (calm, wild)]
    assert sides[0].std() < 0.75 * sides[1].std()
    assert calm.styles.unique().tolist() == [0] and wild.styles.unique().tolist() == [0, 1]  # type: ignore[no-untyped-call]
    label = calm.labels[:, 0].tolist()
    pairs = [(one, other) for one in range(200) for other in range(one) if label[one] == label[other]]
    alike = [float(functional.cosine_similarity(calm.alphas[a, 0].flatten(), calm.alphas[b, 0].flatten(), dim=0)) for a, b in pairs]
    assert len(pairs) > 50 and min(alike) > 0.7 and np.median(alike) > 0.95  # not mirrored, hardly turned


def encode(images: torch.Tensor) -> torch.Tensor:
    """Each picture's own mean as its latents, so that a picture is known by them."""
    return images.mean((1, 2, 3), keepdim=True)


def test_kept_pictures_are_made_once_and_seen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    render = generate_world.scenes

    def scenes(seed: int, indices: Any, size: int, *, calm: bool = False) -> Any:
        made.extend(indices)
        return render(seed, indices, size, calm=calm)

    monkeypatch.setattr(generate_pictures, "scenes", scenes)
    torch.manual_seed(0)
    kept = generate_pictures.Kept(encode, 5, 20, 32, calm=True)
    batches = [kept.draw(8) for _ in range(30)]
    assert sorted(made) == list(range(20))
    latents, captions = generate_pictures.rendered(encode, 5, range(20), 32, calm=True)
    truth = {float(value): caption for value, caption in zip(latents.flatten(), captions, strict=True)}
    seen = [(float(value), caption) for found, told in batches for value, caption in zip(found.flatten(), told, strict=True)]
    assert len(seen) == 240 and all(truth[value] == caption for value, caption in seen)
    assert {value for value, _ in seen} == set(truth)


def test_what_a_kept_picture_is_does_not_depend_on_when_it_is_asked_for() -> None:
    """A run that goes on asks for other pictures first; the autoencoder's last bits may depend on the batch."""
    vae = new_parts(32).vae
    seen: list[list[torch.Tensor]] = []
    for skipped in (0, 3):
        kept = generate_pictures.Kept(lambda images: vae.encode(images).latents, 5, 40, 32, calm=False)
        torch.manual_seed(skipped)
        for _ in range(skipped):
            kept.draw(5)
        torch.manual_seed(9)
        seen.append([kept.draw(6)[0] for _ in range(4)])
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


def test_things_are_calm_after_the_step_that_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    render = generate_world.scenes

    def scenes(*arguments: Any, calm: bool = False) -> Any:
        seen.append(calm)
        return render(*arguments, calm=calm)

    monkeypatch.setattr(generate_pictures, "scenes", scenes)
    training = generate_learn.Training(replace(PLAN, steps=3, vae_steps=0, words_steps=0, calm_after=1), started(), new_parts(32))
    for step in range(3):
        training.advance(step)
    assert seen == [False, True, True]


def started() -> Any:
    from visiontk.runtime import Runtime

    return Runtime(device="cpu", dtype="fp32", threads=1, seed=3).start()


def test_the_target_is_the_schedulers_own_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a U-Net that answers as the scheduler's `get_velocity` does, for noise that its `add_noise` gave, the loss is nothing."""
    parts = new_parts(32)
    drawn: dict[str, torch.Tensor] = {}
    randn = torch.randn

    def noise(*shape: Any, **options: Any) -> torch.Tensor:
        drawn["noise"] = randn(*shape, **options)
        return drawn["noise"]

    def encode(pixels: torch.Tensor) -> Any:
        found = original(pixels)
        drawn["latents"] = found.latents * parts.vae.config.scaling_factor
        return found

    class Oracle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: torch.Tensor | None = None

        def forward(self, noisy: torch.Tensor, times: torch.Tensor, words: torch.Tensor) -> Any:
            assert words.shape == (PLAN.batch, generate_words.TOKENS, 192)
            expected = parts.scheduler.add_noise(drawn["latents"], drawn["noise"], times)
            assert torch.allclose(noisy, expected, atol=1e-5)
            velocity = parts.scheduler.get_velocity(drawn["latents"], drawn["noise"], times)
            return type("Answer", (), {"sample": velocity + self.weight})

    original = parts.vae.encode
    parts.unet = Oracle()
    training = generate_learn.Training(PLAN, started(), parts)
    monkeypatch.setattr(parts.vae, "encode", encode)
    training._ready = True
    monkeypatch.setattr(torch, "randn", noise)
    assert training._denoise(0).item() == pytest.approx(0, abs=1e-9)


def test_errors_weigh_as_the_signal_to_noise_ratio_within_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A U-Net that is off by 1 everywhere costs the mean of the weights, which follow from the times alone."""
    parts = new_parts(32)
    times_seen: list[torch.Tensor] = []

    class OffByOne(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy: torch.Tensor, times: torch.Tensor, words: torch.Tensor) -> Any:
            times_seen.append(times)
            # The latents are 0, so what is seen is noise times a known factor, and the velocity follows from it.
            alphas = parts.scheduler.alphas_cumprod[times][:, None, None, None]
            return type("Answer", (), {"sample": noisy * (alphas / (1 - alphas)).sqrt() + 1 + self.weight})

    parts.unet = OffByOne()
    training = generate_learn.Training(PLAN, started(), parts)
    monkeypatch.setattr(parts.vae, "encode", lambda pixels: type("Encoded", (), {"latents": torch.zeros(len(pixels), 4, 8, 8)}))
    training._ready = True
    loss = training._denoise(0).item()
    alphas = parts.scheduler.alphas_cumprod[times_seen[0]].double()
    ratio = alphas / (1 - alphas)
    weights = [min(max(float(value), 1.0), 5.0) / (float(value) + 1) for value in ratio]
    assert loss == pytest.approx(np.mean(weights), rel=1e-4)
    assert parts.scheduler.alphas_cumprod[-1] == pytest.approx(0, abs=1e-6) and parts.scheduler.alphas_cumprod[0] > 0.99
    assert [int(time) // 250 for time in times_seen[0].sort().values] == [0, 1, 2, 3]  # spread evenly


def test_the_autoencoder_begins_as_the_mean_of_sixteen_pixels() -> None:
    from visiontk.training.generate_vae import new_autoencoder

    torch.manual_seed(0)
    vae = new_autoencoder()
    scenes = generate_world.scenes(6, range(20), 64)
    truth = generate_world.pixels(scenes.images)
    with torch.no_grad():
        latents = vae.encode(truth).latents
        made = vae.decode(latents).sample
    means = torch.nn.functional.avg_pool2d(truth, 4)
    assert latents.shape == (20, 4, 16, 16)
    for channel in range(3):
        found = np.corrcoef(latents[:, channel].flatten().numpy(), means[:, channel].flatten().numpy())[0, 1]
        assert found > 0.9
    assert -10 * float(((made - truth) / 2).square().mean().log10()) > 16


def test_the_schedule_of_the_learning_rate_begins_anew_with_each_part() -> None:
    training = generate_learn.Training(GeneratePlan(vae_steps=40, words_steps=20, steps=100, size=32), started(), new_parts(32))
    assert training.rate(3) == pytest.approx(1e-3) and training.rate(0) == pytest.approx(1e-3 / 4)
    assert training.rate(39) < 1e-5
    assert training.rate(41) == pytest.approx(1e-3) and training.rate(40) == pytest.approx(5e-4) and training.rate(59) < 1e-5
    assert training.rate(69) == pytest.approx(1.5e-3) and training.rate(60) == pytest.approx(1.5e-4) and training.rate(159) < 1e-6
    scales = {group["lr_scale"] for group in training.denoiser.optimisers[0].param_groups}
    assert scales == {1.0, generate_learn.TEXT_SHARE}


def test_captions_leave_out_a_things_own_colour_now_and_then_and_no_other() -> None:
    scenes = generate_world.scenes(5, range(400), 16)
    found = generate_world.told(scenes, 5, range(400))
    own = [colours[0] == world.things()[label].colour for colours, label in zip(scenes.colours, scenes.labels[:, 0].tolist(), strict=True)]
    changed = [before != after for before, after in zip(scenes.captions, found, strict=True)]
    coloured = [colours[0] is not None for colours in scenes.colours]
    assert not any(change and not (held and colour) for change, held, colour in zip(changed, own, coloured, strict=True))
    share = sum(changed) / sum(held and colour for held, colour in zip(own, coloured, strict=True))
    assert share == pytest.approx(generate_world.UNSAID, abs=0.08)
    for before, after, label in zip(scenes.captions, found, scenes.labels[:, 0].tolist(), strict=True):
        assert before.split(" on ")[1] == after.split(" on ")[1] and world.names()[label] in after
    short = [text.split(" on ")[0] for text, change in zip(found, changed, strict=True) if change]
    assert len(short) > 50 and not any(f" {colour} " in f"{text} " for text in short for colour in world.COLOURS)
    assert found[100:200] == generate_world.told(generate_world.scenes(5, range(100, 200), 16), 5, range(100, 200))


def test_the_answers_to_what_a_caption_names_are_what_it_says() -> None:
    scenes = generate_world.scenes(5, range(100), 16)
    things, colours, behind = generate_naming.named(scenes)
    names = [*world.COLOURS, ""]
    for caption, thing, colour, background in zip(scenes.captions, things.tolist(), colours.tolist(), behind.tolist(), strict=True):
        noun, rest = caption.split(" on ", 1)
        assert world.names()[thing] in noun and names[colour] in noun
        assert rest.split(" ", 1)[1] == f"{names[background]} background" if names[background] else "background" in rest


def test_the_text_encoder_learns_to_name_things_at_every_end_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_learn, "NAMING_BATCH", 64)
    seed_everything(0)
    parts = new_parts(32)
    before = {name: value.clone() for name, value in parts.unet.state_dict().items()}
    training = generate_learn.Training(replace(PLAN, vae_steps=0, words_steps=100), started(), parts)
    found = [training.advance(step) for step in range(100)]
    assert np.mean([line["named"] for line in found[:5]]) < 0.1 < 0.5 < np.mean([line["named"] for line in found[-5:]])
    assert found[-1]["loss"] < found[0]["loss"] / 3
    assert all(torch.equal(value, before[name]) for name, value in parts.unet.state_dict().items())
    training.advance(100)
    words = training.denoiser.average.module[1].get_input_embeddings().weight
    naming: Any = training.naming.network
    assert torch.allclose(words, naming.text_encoder.get_input_embeddings().weight, atol=1e-3)


def trained(folder: Path, stop_after: int | None = None, plan: GeneratePlan = PLAN) -> Any:
    """What a run of two steps of each part comes to, stopped as Ctrl-C does after so many."""
    seed_everything(1)
    training = generate_learn.Training(plan, started(), new_parts(32))
    assert course(training, 6, folder, stop_after).step == 6
    return training.finished()


@pytest.mark.parametrize(("stop", "plan"), [(1, PLAN), (3, PLAN), (5, PLAN), (5, replace(PLAN, pictures=40, calm_after=1))])
def test_a_run_that_was_stopped_comes_to_the_same_weights(tmp_path: Path, stop: int, plan: GeneratePlan) -> None:
    whole = trained(tmp_path / "whole", plan=plan)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", stop, plan)
    again = trained(tmp_path / "stopped", plan=plan)
    for part in ("vae", "unet", "text_encoder"):
        for name, value in getattr(whole, part).state_dict().items():
            assert torch.equal(value, getattr(again, part).state_dict()[name]), (part, name)
    assert whole.vae.config.scaling_factor == again.vae.config.scaling_factor
    lines = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("whole", "stopped")]
    assert [[line["step"], line["train"]["loss"]] for line in lines[0]] == [[line["step"], line["train"]["loss"]] for line in lines[1]]
    assert [line["step"] for line in lines[0]] == [1, 2, 3, 4, 5, 6]
    assert [set(line["train"]) & {"psnr", "named"} for line in lines[0]] == [{"psnr"}] * 2 + [{"named"}] * 2 + [set()] * 2


def test_latents_are_divided_by_their_spread(tmp_path: Path) -> None:
    parts = trained(tmp_path / "run")
    from visiontk.training.chance import derive

    scenes = generate_world.scenes(derive(PLAN.seed, "calibration"), range(generate_learn.CALIBRATION), 32)
    with torch.no_grad():
        latents = parts.vae.encode(generate_world.pixels(scenes.images)).latents
    assert float(latents.std() * parts.vae.config.scaling_factor) == pytest.approx(1, abs=1e-3)


def test_the_folder_is_a_pipeline_that_diffusers_reads(tmp_path: Path) -> None:
    from diffusers import AutoPipelineForText2Image

    from visiontk.training.generate_network import read_parts
    from visiontk.training.generate_output import write_model

    parts = new_parts(32)
    write_model(parts, tmp_path, half=True)
    pipeline: Any = AutoPipelineForText2Image.from_pretrained(tmp_path, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red apple", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (32, 32) and type(pipeline.scheduler).__name__ == "DDIMScheduler"
    again = read_parts(str(tmp_path))
    for part in ("vae", "unet", "text_encoder"):
        for name, value in getattr(parts, part).state_dict().items():
            assert torch.equal(value.float(), getattr(again, part).state_dict()[name]), (part, name)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]


def test_the_prompts_name_every_thing_before_colours_that_it_has_not() -> None:
    found = list(generate_measure.prompts(2))
    assert [label for label, _, _ in found] == list(range(100)) * 2
    for label, colour, text in found:
        thing = world.things()[label]
        assert thing.name in text and text.endswith(f"{colour} background") and colour != thing.colour
    assert {colour for _, colour, _ in found} == set(world.COLOURS)


def test_the_rim_tells_the_backgrounds_colour() -> None:
    scenes = world.render_scenes(generate_measure.SEED, 300, size=64, backgrounds=("plain",))
    found = [generate_measure.background_colour(picture(image)) for image in scenes.images]
    right = [colour == truth for colour, truth in zip(found, scenes.background_colours, strict=True)]
    assert np.mean(right) >= 0.99
    assert generate_measure.background_colour(Image.new("RGB", (20, 20), (50, 100, 210))) == "blue"


def test_options_that_make_no_sense_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="use tiny"):
        GeneratePlan(data="photos").check()
    with pytest.raises(UsageError, match="--size 40 is no multiple of 16"):
        GeneratePlan(size=40).check()
    result = run("train", "generate", "tiny")
    assert result.code == 2 and "pass -o DIR" in result.stderr
    assert GeneratePlan(model="x").autoencoder_steps == 0 and GeneratePlan().autoencoder_steps == 1500
    assert GeneratePlan(model="x").naming_steps == 0 and GeneratePlan().naming_steps == 300
    assert GeneratePlan(steps=7, half=True).command("a b", "bf16") == "visiontk train generate tiny --steps 7 --half -o 'a b' --dtype bf16"


def test_a_model_of_another_size_or_kind_is_not_trained_on(tmp_path: Path) -> None:
    from tests.generate_models import make_checkpoint, make_pipeline
    from visiontk.errors import ModelUnavailable
    from visiontk.training import generate_run

    with pytest.raises(UsageError, match="tiny-diffusion makes pictures of 64 pixels, and 128 were asked for; give --size 64"):
        generate_run.build(GeneratePlan(model="tiny-diffusion", size=128))
    folder = make_pipeline(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is of another kind than"):
        generate_run.build(GeneratePlan(model=str(folder), size=32))
    with pytest.raises(UsageError, match="is one file"):
        generate_run.build(GeneratePlan(model=str(make_checkpoint(tmp_path / "one.safetensors", folder, config=False))))
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        generate_run.build(GeneratePlan(model=str(folder), size=32))
