"""The generator against diffusers itself: the same folder, read and called without any code of ours, gives the same bytes."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.generate_models import make_lora, make_pipeline, make_xl_pipeline, rename
from visiontk.adapters.generate import Generated, Generator, Lora, Request, Step, load
from visiontk.adapters.generate_options import options, resolve
from visiontk.adapters.generate_pictures import decode
from visiontk.adapters.generate_quiet import importing, quiet
from visiontk.errors import DeviceError, ItemError, ModelUnavailable, OutOfMemory, UsageError
from visiontk.runtime import Runtime

CPU = Runtime(device="cpu", dtype="fp32")
APPLE = Request("a red apple on the grass", seed=5, steps=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("generate") / "sd", blocks=False)


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return load(str(folder), CPU)


@pytest.fixture(scope="module")
def bare(folder: Path) -> Callable[..., Any]:
    """Call diffusers' own class on the folder and give its pictures as one uint8 array."""
    with importing():
        import diffusers

    read: dict[str, Any] = {}

    def call(
        kind: str, seeds: list[int], *, scheduler: str | None = None, scheduler_options: dict[str, Any] | None = None, **arguments: Any
    ) -> Any:
        with quiet():
            if kind not in read:
                read[kind] = getattr(diffusers, kind).from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
                read[kind].set_progress_bar_config(disable=True)
            pipeline, own = read[kind], diffusers.PNDMScheduler.from_pretrained(folder / "scheduler")
            pipeline.scheduler = getattr(diffusers, scheduler).from_config(own.config, **(scheduler_options or {})) if scheduler else own
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
            return np.stack([np.asarray(image) for image in pipeline(generator=generators, **arguments).images])

    return call


def pixels(answers: list[Generated | ItemError]) -> Any:
    assert all(isinstance(answer, Generated) for answer in answers), answers
    return np.stack([np.asarray(answer.image) for answer in answers if isinstance(answer, Generated)])


def one(generator: Generator, **changes: Any) -> Any:
    return pixels(generator.generate([Request(**{**vars(APPLE), **changes})]))[0]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """48 x 40, with something different everywhere."""
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((48, 40), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def hole() -> Any:
    mask = np.zeros((40, 48), dtype=np.bool_)
    mask[8:25, 13:30] = True
    return mask


def test_text_to_image_is_what_diffusers_makes(generator: Generator, bare: Callable[..., Any]) -> None:
    expected = bare("StableDiffusionPipeline", [5, 6], prompt=["a red apple", "a blue car"], num_inference_steps=3)
    made = generator.generate([Request("a red apple", seed=5, steps=3), Request("a blue car", seed=6, steps=3)])
    assert np.array_equal(pixels(made), expected)


def test_image_to_image_is_what_diffusers_makes(generator: Generator, bare: Callable[..., Any], photo: Image.Image) -> None:
    expected = bare(
        "StableDiffusionImg2ImgPipeline", [1, 2], prompt=["a tree", "a car"], image=[photo, photo], num_inference_steps=5, strength=0.6
    )
    requests = [Request(prompt, seed=seed, steps=5, strength=0.6, init=photo) for seed, prompt in ((1, "a tree"), (2, "a car"))]
    assert np.array_equal(pixels(generator.generate(requests)), expected)


def test_inpainting_is_what_diffusers_makes_inside_the_mask_and_untouched_outside(
    generator: Generator, bare: Callable[..., Any], photo: Image.Image, hole: Any
) -> None:
    [expected] = bare(
        "StableDiffusionInpaintPipeline",
        [3],
        prompt=["a tree"],
        image=[photo],
        mask_image=[Image.fromarray(np.where(hole, np.uint8(255), np.uint8(0)))],
        width=48,
        height=40,
        num_inference_steps=4,
        strength=1.0,
    )
    made = one(generator, prompt="a tree", seed=3, steps=4, init=photo, mask=hole)
    assert np.array_equal(made[hole], expected[hole])
    assert np.array_equal(made[~hole], np.asarray(photo)[~hole])
    assert not np.array_equal(expected[~hole], np.asarray(photo)[~hole])  # which diffusers alone does not promise


def test_outside_the_mask_an_image_that_is_resized_is_the_resized_one(generator: Generator, photo: Image.Image, hole: Any) -> None:
    made = one(generator, init=photo, mask=hole, size=(24, 16))
    outside = np.asarray(Image.fromarray(hole).resize((24, 16), Image.Resampling.BOX)) == 0
    small = np.asarray(photo.resize((24, 16), Image.Resampling.LANCZOS))
    assert 200 < outside.sum() < 384
    assert np.array_equal(made[outside], small[outside])


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ({"guidance": 2.0}, {"guidance_scale": 2.0}),
        ({"guidance": 1.0}, {"guidance_scale": 1.0}),
        ({"negative": "a green tree"}, {"negative_prompt": ["a green tree"]}),
        ({"steps": 7}, {"num_inference_steps": 7}),
        ({"size": (40, 24)}, {"width": 40, "height": 24}),
        ({"scheduler": "ddim"}, {"scheduler": "DDIMScheduler"}),
        ({"scheduler": "euler-a"}, {"scheduler": "EulerAncestralDiscreteScheduler"}),
        ({"scheduler": "dpm++-karras"}, {"scheduler": "DPMSolverMultistepScheduler", "scheduler_options": {"use_karras_sigmas": True}}),
        ({"scheduler": "unipc"}, {"scheduler": "UniPCMultistepScheduler"}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_every_option_reaches_the_pipeline(
    generator: Generator, bare: Callable[..., Any], option: dict[str, Any], arguments: dict[str, Any]
) -> None:
    [expected] = bare("StableDiffusionPipeline", [5], **{"prompt": [APPLE.prompt], "num_inference_steps": 3, **arguments})
    made = one(generator, **option)
    assert np.array_equal(made, expected)
    plain = one(generator)
    assert made.shape != plain.shape or not np.array_equal(made, plain)


def test_clip_skip_reads_the_text_from_an_earlier_layer(generator: Generator, folder: Path, bare: Callable[..., Any]) -> None:
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")

    def encode(text: str, skip: int) -> torch.Tensor:
        tokens = tokenizer(text, padding="max_length", max_length=24, return_tensors="pt").input_ids
        with torch.no_grad():
            hidden: torch.Tensor = encoder(tokens, output_hidden_states=True).hidden_states[-1 - skip]
            normed: torch.Tensor = encoder.final_layer_norm(hidden)
        return normed

    embeds = {"prompt_embeds": encode(APPLE.prompt, 2), "negative_prompt_embeds": encode("", 0)}
    [expected] = bare("StableDiffusionPipeline", [5], num_inference_steps=3, **embeds)
    made = one(generator, clip_skip=2)
    assert np.array_equal(made, expected)
    plain = one(generator)
    assert not np.array_equal(made, plain)
    assert np.array_equal(one(generator, clip_skip=0), plain), "0 leaves none out"


def test_a_scheduler_keeps_what_the_model_was_trained_with(tmp_path: Path) -> None:
    generator = load(str(make_pipeline(tmp_path / "v", prediction_type="v_prediction")), CPU)
    seen: list[Any] = []
    for name in generator.schedulers:
        generator.generate([Request("a tree", steps=2, scheduler=name)], lambda step: seen.append(generator.pipeline.scheduler.config))
        assert {seen[-1][key] for key in ("prediction_type",)} == {"v_prediction"}, name
        assert (seen[-1]["beta_start"], seen[-1]["beta_end"], seen[-1]["beta_schedule"]) == (0.00085, 0.012, "scaled_linear"), name
    assert {"ddim", "ddpm", "dpm++", "dpm++-karras", "euler", "euler-a", "heun", "pndm", "unipc"} <= set(generator.schedulers)


def test_the_same_request_gives_the_same_bytes(generator: Generator, photo: Image.Image) -> None:
    requests = [APPLE, Request("a tree", seed=9, steps=3, init=photo, strength=0.7), Request("a car", seed=8, steps=3)]
    assert [answer.image.tobytes() for answer in generator.generate(requests) if isinstance(answer, Generated)] == [
        answer.image.tobytes() for answer in generator.generate(requests) if isinstance(answer, Generated)
    ]


@pytest.mark.parametrize("scheduler", ["pndm", "euler-a"])
def test_an_image_does_not_depend_on_what_is_made_beside_it(generator: Generator, scheduler: str) -> None:
    noise: list[torch.Tensor] = []
    hook = generator.pipeline.unet.register_forward_pre_hook(lambda _, inputs: noise.append(inputs[0].clone()))
    try:
        requests = [Request(prompt, seed=seed, steps=3, scheduler=scheduler) for seed, prompt in enumerate(["a tree", "a car", "an apple"])]
        together = pixels(generator.generate(requests))
        first = noise[0][:3]
        del noise[:]
        alone = pixels([answer for request in requests for answer in generator.generate([request])])
        starts = torch.cat([noise[index][:1] for index in range(0, len(noise), len(noise) // 3)])
    finally:
        hook.remove()
    assert torch.equal(first, starts)
    sigma = generator.pipeline.scheduler.init_noise_sigma
    drawn = torch.cat([torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)])
    if scheduler == "pndm":
        assert torch.equal(first, drawn * sigma)
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 20


def test_any_mixture_is_answered_in_order_and_what_fits_goes_together(generator: Generator, photo: Image.Image, hole: Any) -> None:
    requests = [
        APPLE,
        Request("a tree", steps=3, init=photo),
        Request("a car", steps=3),
        Request("a car", steps=3, guidance=2.0),
        Request("a tree", steps=3, init=photo, mask=hole),
        Request("a tree", steps=3, negative="a car"),
        Request("an apple", seed=4, steps=3, init=photo),
    ]
    answers = generator.generate(requests)
    assert [answer.batch for answer in answers if isinstance(answer, Generated)] == [2, 2, 2, 1, 1, 1, 2]
    assert [(answer.request.prompt, answer.request.seed) for answer in answers if isinstance(answer, Generated)] == [
        (request.prompt, request.seed) for request in requests
    ]
    for request, answer in zip(requests, answers, strict=True):
        assert isinstance(answer, Generated)
        [alone] = pixels(generator.generate([request]))
        assert np.abs(np.asarray(answer.image).astype(int) - alone).max() <= 1


def test_tasks_share_the_networks(generator: Generator, photo: Image.Image) -> None:
    seen: set[int] = set()
    hook = generator.pipeline.unet.register_forward_pre_hook(lambda module, _: seen.add(id(module)))
    try:
        generator.generate([APPLE, Request("a tree", steps=3, init=photo)])
    finally:
        hook.remove()
    assert seen == {id(generator.pipeline.unet)}


def test_what_is_not_said_is_filled_in(generator: Generator, photo: Image.Image, hole: Any) -> None:
    assert vars(generator.resolve(Request("a tree"))) == {
        **vars(Request("a tree")),
        "steps": 50,
        "guidance": 7.5,
        "size": (32, 32),
        "scheduler": "pndm",
        "loras": (),
    }
    changed = generator.resolve(Request("a tree", init=photo))
    assert (changed.strength, changed.size) == (0.8, (48, 40))
    assert generator.resolve(Request("a tree", init=photo.crop((0, 0, 47, 45)))).size == (40, 40)
    assert generator.resolve(Request("a tree", init=photo, mask=hole)).strength == 1.0
    full = Request("a tree", 3, "a car", 4, 2.5, (64, 8), "ddim", 1, ())
    assert generator.resolve(full) == full


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompt": " \n"}, "the prompt is empty; say what"),
        ({"seed": -1}, "seed -1 makes no sense"),
        ({"seed": 2**64}, "makes no sense; use 0 to 18446744073709551615"),
        ({"steps": 0}, "0 steps make no sense; .* takes 1 to 1000"),
        ({"steps": 1001}, "1001 steps make no sense"),
        ({"guidance": -1.0}, "guidance -1 makes no sense"),
        ({"guidance": float("nan")}, "guidance nan makes no sense"),
        ({"size": (33, 50)}, "cannot make 33 x 50 pixels; sides are multiples of 8, so use 32 x 48"),
        ({"size": (3, 16)}, "so use 8 x 16"),
        ({"scheduler": "flow"}, "has no scheduler 'flow'; use ddim, ddpm, "),
        ({"strength": 0.5}, "strength says how much of an init image"),
        ({"clip_skip": -1}, "clip skip -1 makes no sense; .* takes 0 to 3"),
        ({"clip_skip": 4}, "clip skip 4 makes no sense"),
        ({"guidance": 1.0, "negative": "x"}, "ignores a negative prompt at guidance 1; leave it out, or give more than 1"),
        ({"init": (8, 8), "strength": 0.0}, "strength 0 makes no sense"),
        ({"init": (8, 8), "strength": 1.5}, "strength 1.5 makes no sense"),
        ({"init": (8, 8), "strength": 0.1}, "strength 0.1 of 3 steps is less than one step"),
        ({"mask": (8, 8)}, "there is a mask but no image"),
        ({"init": (8, 8), "mask": (8, 9)}, "the mask is 8 x 9 and the init image 8 x 8"),
        ({"init": (8, 8), "mask": (8, 8, "nothing")}, "the mask covers nothing"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_runs(generator: Generator, changes: dict[str, Any], complaint: str) -> None:
    given = dict(changes)
    if "init" in given:
        given["init"] = Image.new("RGB", given["init"])
    if "mask" in given:
        given["mask"] = np.full(given["mask"][1::-1], len(given["mask"]) == 2)
    request = Request(**{**vars(APPLE), **given})
    with pytest.raises(UsageError, match=complaint) as caught:
        generator.resolve(request)
    with pytest.raises(UsageError):
        generator.generate([APPLE, request], lambda step: pytest.fail("it ran"))
    assert "\n" not in str(caught.value)


def test_steps_are_told_and_the_last_picture_is_the_image(generator: Generator, photo: Image.Image, hole: Any) -> None:
    told: list[tuple[int, int, tuple[int, ...]]] = []
    shown: dict[int, list[Image.Image]] = {}

    def on_step(step: Step) -> None:
        told.append((step.done, step.steps, tuple(step.places)))
        shown.update(zip(step.places, ([picture] for picture in step.pictures()), strict=True))

    requests = [
        Request("a tree", seed=1, steps=2, scheduler="ddim"),
        Request("a tree", seed=1, steps=2, scheduler="ddim", init=photo, mask=hole),
        Request("a car", seed=2, steps=2, scheduler="ddim"),
    ]
    answers = generator.generate(requests, on_step)
    assert told == [(1, 2, (0, 2)), (2, 2, (0, 2)), (1, 2, (1,)), (2, 2, (1,))]
    for place, answer in enumerate(answers):
        assert isinstance(answer, Generated)
        assert np.array_equal(np.asarray(shown[place][0]), np.asarray(answer.image)), place


def test_what_on_step_raises_ends_the_call_and_leaves_the_model_fit(generator: Generator) -> None:
    def stop(step: Step) -> None:
        if step.done == 2:
            raise KeyboardInterrupt

    before = one(generator)
    with pytest.raises(KeyboardInterrupt):
        generator.generate([APPLE], stop)
    assert np.array_equal(one(generator), before)


def test_nothing_is_written_to_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(str(folder), CPU).generate([Request("a red apple " * 20, steps=2)])
    assert capfd.readouterr() == ("", "")


def test_a_picture_that_the_safety_checker_blocks_is_an_error_of_its_own(tmp_path: Path, photo: Image.Image, hole: Any) -> None:
    folder = make_pipeline(tmp_path / "strict", blocks=True)
    changed: dict[str, Any] = {"steps": 2, "init": photo, "strength": 0.9}
    answers = load(str(folder), CPU).generate([APPLE, Request("a tree", **changed), Request("a tree", **changed, mask=hole)])
    for answer in answers:  # whatever the task
        assert isinstance(answer, ItemError)
        assert answer.kind == "blocked"
        assert "the safety checker of" in answer.message and "change the prompt or the seed" in answer.message
    [free] = load(str(folder), CPU, safety=False).generate([APPLE])
    assert isinstance(free, Generated)
    assert np.asarray(free.image).std() > 0


def test_a_picture_that_is_not_finite_is_an_error_of_its_own(folder: Path) -> None:
    generator = load(str(folder), CPU, safety=False)
    with torch.no_grad():
        generator.pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))
    [answer] = generator.generate([APPLE])
    assert isinstance(answer, ItemError)
    assert (answer.kind, "try --dtype fp32" in answer.message) == ("not_finite", True)


@pytest.mark.parametrize(
    ("prompt", "cut"),
    [
        ("a red apple", None),
        (" ".join(["apple"] * 22), None),
        (" ".join(["apple"] * 22) + " on the grass", "on the grass"),
        (" ".join(["apple"] * 21) + " On, The  grass", ", The  grass"),
    ],
)
def test_the_end_of_a_prompt_that_is_not_read_is_told(generator: Generator, prompt: str, cut: str | None) -> None:
    [answer] = generator.generate([Request(prompt, seed=5, steps=1)])
    assert isinstance(answer, Generated)
    assert answer.cut == cut
    if cut is not None:  # and it is indeed not read
        kept = prompt[: -len(cut)] if prompt.endswith(cut) else pytest.fail("it is not the end")
        assert np.array_equal(np.asarray(answer.image), one(generator, prompt=kept, steps=1))


def test_the_end_of_a_negative_prompt_that_is_not_read_is_told_too(generator: Generator) -> None:
    read = " ".join(["apple"] * 22)
    [answer] = generator.generate([Request("a car", seed=5, steps=1, negative=f"{read} on the grass")])
    assert isinstance(answer, Generated)
    assert (answer.cut, answer.negative_cut) == (None, "on the grass")
    assert np.array_equal(np.asarray(answer.image), one(generator, prompt="a car", steps=1, negative=read)), "and it is indeed not read"
    [short] = generator.generate([Request("a car", seed=5, steps=1, negative="a tree")])
    assert isinstance(short, Generated) and short.negative_cut is None


def test_a_lora_adds_to_the_model_by_its_weight(folder: Path, generator: Generator, tmp_path: Path) -> None:
    file = make_lora(tmp_path / "style", folder)
    with importing():
        from diffusers import StableDiffusionPipeline
    with quiet():
        plain = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        plain.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="it")
        plain.set_adapters(["it"], [0.5])
        plain.set_progress_bar_config(disable=True)
        expected = plain(prompt=[APPLE.prompt], num_inference_steps=3, generator=[torch.Generator().manual_seed(5)]).images[0]
    half = load(str(folder), CPU, loras=[Lora(str(file), 0.5)])
    assert np.array_equal(one(half), np.asarray(expected))
    assert not np.array_equal(one(half), one(generator))
    assert half.loras == (Lora(str(file), 0.5),) and half.lora_revision(half.loras[0])[:7] == "sha256:"
    nothing = load(str(folder), CPU, loras=[Lora(str(tmp_path / "style"), 0.0)])
    assert np.abs(one(nothing).astype(int) - one(generator)).max() <= 1
    both = load(str(folder), CPU, loras=[Lora(str(file), 0.25), Lora(str(file), 0.25)])
    assert np.abs(one(both).astype(int) - one(half)).max() <= 1


def test_each_picture_may_have_loras_of_its_own(folder: Path, generator: Generator, tmp_path: Path) -> None:
    first, second = (Lora(str(make_lora(tmp_path / name, folder, seed=seed)), 0.5) for name, seed in (("first", 3), ("second", 4)))
    bad = Lora(str(make_lora(tmp_path / "wide", folder, width=64)))
    several = load(str(folder), CPU, loras=[first])
    wanted: list[tuple[Lora, ...] | None] = [None, (), (second,), (bad,), (first, second), (replace(first, weight=0.0),), (first,)]
    answers = several.generate([replace(APPLE, loras=loras) for loras in wanted])
    made = [None if isinstance(answer, ItemError) else np.asarray(answer.image) for answer in answers]
    for place, loras in ((0, (first,)), (2, (second,)), (4, (first, second)), (6, (first,))):
        found = made[place]
        assert found is not None
        # Beside each other in one pass or alone, and read in whatever order: only rounding may differ.
        assert np.abs(found.astype(int) - one(load(str(folder), CPU, loras=loras))).max() <= 1
    assert made[1] is not None and np.abs(made[1].astype(int) - one(generator)).max() <= 1
    assert made[5] is not None and np.abs(made[5].astype(int) - one(generator)).max() <= 1
    assert np.abs(made[0].astype(int) - made[2]).max() > 1  # type: ignore[union-attr]
    failed = answers[3]
    assert isinstance(failed, ItemError) and failed.kind == "bad_prompt" and "does not fit" in failed.message
    assert np.array_equal(one(several), one(several)), "and what comes after it is as before"
    assert np.abs(one(several).astype(int) - made[0]).max() <= 1


def test_a_lora_that_could_not_be_read_leaves_nothing_behind(folder: Path, generator: Generator, tmp_path: Path) -> None:
    good, new = (Lora(str(make_lora(tmp_path / name, folder, seed=seed))) for name, seed in (("good", 3), ("new", 4)))
    wide = Lora(str(make_lora(tmp_path / "wide", folder, width=64)))
    half = Lora(str(make_lora(tmp_path / "half", folder)))  # its UNet's part fits, and its text encoder's does not
    tensors = load_file(half.id) | {
        f"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_{end}.weight": torch.ones(*shape)
        for end, shape in (("A", (2, 64)), ("B", (64, 2)))
    }
    save_file(tensors, half.id)
    several = load(str(folder), CPU)
    plain = one(generator)
    for bad in (wide, half):
        for loras in ((good,), (bad,), (), (good, bad), (), (new, bad), (), (bad,), (new,)):
            [answer] = several.generate([replace(APPLE, loras=loras)])
            if bad in loras:
                assert isinstance(answer, ItemError) and "does not fit" in answer.message and "already in use" not in answer.message
                continue
            assert isinstance(answer, Generated)
            expected = plain if not loras else one(load(str(folder), CPU, loras=loras))
            assert np.array_equal(np.asarray(answer.image), expected), (bad, loras)


def test_loras_are_in_use_in_the_order_in_which_they_are_named(folder: Path, tmp_path: Path) -> None:
    first, second = (Lora(str(make_lora(tmp_path / name, folder, seed=seed)), 0.7) for name, seed in (("first", 3), ("second", 4)))
    several = load(str(folder), CPU)
    for loras in ((first, second), (second, first)):
        several.generate([replace(APPLE, loras=loras)])
        assert several.pipeline.get_active_adapters() == [{first: "lora0", second: "lora1"}[lora] for lora in loras]


def test_memory_that_runs_out_while_a_lora_is_read_is_no_fault_of_the_lora(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Lora(str(make_lora(tmp_path / "style", folder)))
    several = load(str(folder), CPU)

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(several.pipeline, "load_lora_weights", full)
    with pytest.raises(OutOfMemory):
        several.generate([replace(APPLE, loras=(file,))])
    monkeypatch.undo()
    assert isinstance(several.generate([replace(APPLE, loras=(file,))])[0], Generated)


@pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser9/x", "\0"])
def test_a_lora_with_a_name_that_no_file_can_have_is_one_line(generator: Generator, name: str) -> None:
    with pytest.raises(ModelUnavailable, match="LoRA"):
        generator.lora_revision(Lora.parse(f"{name}:0.5"))


def test_a_model_that_is_quantized_takes_no_lora_that_it_has_not(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    file = str(make_lora(tmp_path / "style", folder))
    small = load(str(folder), CPU, quantize="int8")
    with pytest.raises(UsageError, match=r"is quantized, and takes no LoRA of one image alone; pass --lora .*:0 for all of them"):
        small.resolve(replace(APPLE, loras=(Lora(file),)))
    known = load(str(folder), CPU, quantize="int8", loras=[Lora(file, 0.0)])
    with_it = one(known, loras=(Lora(file, 1.0),))
    assert np.abs(with_it.astype(int) - one(known)).max() > 1


def test_leaving_out_a_safety_checker_that_is_not_there_is_an_error(folder: Path, tmp_path: Path) -> None:
    without = make_pipeline(tmp_path / "without")
    with pytest.raises(UsageError, match="has no safety checker of its own to leave out; leave out --no-safety"):
        load(str(without), CPU, safety=False)
    for safe, safety in ((without, True), (without, None), (folder, False), (folder, None)):
        assert load(str(safe), CPU, safety=safety).pipeline.safety_checker is None
    assert load(str(folder), CPU).pipeline.safety_checker is not None


def test_a_lora_that_does_not_fit_is_one_line(folder: Path, tmp_path: Path) -> None:
    wide = make_lora(tmp_path / "wide", folder, width=64)
    other = make_lora(tmp_path / "other", folder, prefix="transformer")
    (tmp_path / "code.bin").write_bytes(b"pickle")
    (tmp_path / "two").mkdir()
    for name in "ab":
        shutil.copy(wide, tmp_path / "two" / f"{name}.safetensors")
    for lora, complaint in (
        (wide, r"does not fit .* has the shape \[2, 64\] and not .*\); name one that was trained for its architecture"),
        (other, "the LoRA .*other.* name one that was trained for its architecture"),
        (tmp_path / "code.bin", "is no .safetensors file, and pickles are never read"),
        (tmp_path / "two", r"holds several \(a.safetensors, b.safetensors\)"),
        (tmp_path / "absent.safetensors", "there is no LoRA .*absent.safetensors: no file"),
    ):
        with pytest.raises(ModelUnavailable, match=complaint) as caught:
            load(str(folder), CPU, loras=[Lora(str(lora))])
        assert "\n" not in str(caught.value)


def test_a_lora_is_written_with_its_weight() -> None:
    assert Lora.parse("org/name:0.8") == Lora("org/name", 0.8)
    assert Lora.parse("./a.safetensors") == Lora("./a.safetensors", 1.0)
    assert Lora.parse("a:-1") == Lora("a", -1.0)
    for wrong in ("a:much", ":0.5", "a:nan", ""):
        with pytest.raises(UsageError, match="LoRA"):
            Lora.parse(wrong)


def test_int8_weights_change_little(folder: Path, generator: Generator) -> None:
    pytest.importorskip("torchao")
    small = load(str(folder), CPU, quantize="int8")
    weight = small.pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q.weight
    assert type(weight).__name__ == "Int8Tensor"
    difference = np.abs(one(small).astype(int) - one(generator))
    assert difference.max() > 0
    assert difference.mean() < 2


def test_the_blocks_that_repeat_are_compiled(folder: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    # Captured and run as graphs; generating code for them is left out, which takes most of a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled = load(str(folder), Runtime(device="cpu", dtype="fp32", compile=True))
    blocks = [module for module in compiled.pipeline.unet.modules() if type(module).__name__ == "BasicTransformerBlock"]
    assert blocks
    assert all(module._compiled_call_impl is not None for module in blocks)
    assert np.abs(one(compiled).astype(int) - one(generator)).max() <= 1


def test_what_the_machine_lacks_is_said_before_anything_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visiontk.adapters.generate_weights.read", lambda *_, **__: pytest.fail("it was read"))
    for offload in ("model", "sequential"):
        with pytest.raises(DeviceError, match="there is no GPU"):
            load(str(folder), CPU, offload=offload)
    with pytest.raises(UsageError, match="offload 'disk' is unknown; use model or sequential"):
        load(str(folder), CPU, offload="disk")
    with pytest.raises(UsageError, match="quantization 'int3' is unknown; use int8"):
        load(str(folder), CPU, quantize="int3")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "torchao" else find(name, *rest))
    with pytest.raises(UsageError, match=r"needs the package torchao; install visiontk\[quantize\]"):
        load(str(folder), CPU, quantize="int8")


def test_a_small_model_runs_in_fp32_on_a_cpu_and_otherwise_as_asked(tmp_path: Path) -> None:
    folder = make_pipeline(tmp_path / "half", dtype="float16")
    automatic = load(str(folder), Runtime(device="cpu"))
    assert {tensor.dtype for tensor in automatic.pipeline.unet.parameters()} == {torch.float32}
    assert automatic.runtime.dtype_name == "fp32"
    asked = load(str(folder), Runtime(device="cpu", dtype="bf16"))
    parts = (asked.pipeline.unet, asked.pipeline.vae, asked.pipeline.text_encoder)
    assert {tensor.dtype for part in parts for tensor in part.parameters()} == {torch.bfloat16}
    assert np.abs(one(asked).astype(int) - one(automatic)).mean() < 10


def test_a_task_that_the_family_cannot_do_is_told_before_weights_are_read(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "pixart"
    shutil.copytree(folder, other)
    rename(other, "PixArtSigmaPipeline")
    for file in other.rglob("*.safetensors"):
        file.write_bytes(b"no weights at all")
    for task, words in (("image2image", "image to image"), ("inpaint", "inpainting")):
        with pytest.raises(UsageError, match=f"cannot do {words}, its family does text to image alone; name another model"):
            load(str(other), CPU, task=task)  # type: ignore[arg-type]
    rename(other, "StableDiffusionUpscalePipeline")
    with pytest.raises(UsageError, match="is a StableDiffusionUpscalePipeline, which makes no images from a prompt alone"):
        load(str(other), CPU)


def test_a_unet_with_channels_for_a_mask_inpaints_and_does_nothing_else(tmp_path: Path, photo: Image.Image, hole: Any) -> None:
    folder = make_pipeline(tmp_path / "inpaint", mask_channels=True)
    with pytest.raises(UsageError, match="cannot do text to image, its family does inpainting alone"):
        load(str(folder), CPU)
    generator = load(str(folder), CPU, task="inpaint")
    assert generator.tasks == {"inpaint"}
    made = one(generator, init=photo, mask=hole)
    assert np.array_equal(made[~hole], np.asarray(photo)[~hole])
    with pytest.raises(UsageError, match="cannot do text to image"):
        generator.resolve(APPLE)


def test_sdxl_is_what_diffusers_makes_in_all_three_tasks(tmp_path: Path, photo: Image.Image, hole: Any) -> None:
    with importing():
        import diffusers
    folder = make_xl_pipeline(tmp_path)
    generator = load(str(folder), CPU)
    picture = photo.resize((32, 32))
    square = np.asarray(Image.fromarray(hole).resize((32, 32)))
    mask = Image.fromarray(np.where(square, np.uint8(255), np.uint8(0)))
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("StableDiffusionXLPipeline", {}, {}),
        ("StableDiffusionXLPipeline", {"negative": "a car", "guidance": 3.0}, {"negative_prompt": "a car", "guidance_scale": 3.0}),
        ("StableDiffusionXLPipeline", {"clip_skip": 1, "size": (40, 32)}, {"clip_skip": 1, "width": 40, "height": 32}),
        ("StableDiffusionXLImg2ImgPipeline", {"init": picture, "strength": 0.7}, {"image": picture, "strength": 0.7}),
        (
            "StableDiffusionXLInpaintPipeline",
            {"init": picture, "mask": square, "strength": 0.9},
            {"image": picture, "mask_image": mask, "strength": 0.9, "width": 32, "height": 32},
        ),
    ]
    for kind, option, arguments in cases:
        with quiet():
            pipeline = getattr(diffusers, kind).from_pretrained(folder, dtype=torch.float32)
            pipeline.set_progress_bar_config(disable=True)
            expected = pipeline(prompt=APPLE.prompt, num_inference_steps=3, generator=torch.Generator().manual_seed(5), **arguments).images[
                0
            ]
        made = one(generator, **option)
        inside = option.get("mask", np.ones(made.shape[:2], dtype=np.bool_))
        assert np.array_equal(made[inside], np.asarray(expected)[inside]), kind
    assert generator.resolve(Request("a tree")).guidance == 5.0
    last: list[Image.Image] = []
    [answer] = generator.generate([APPLE], lambda step: last.extend(step.pictures()))
    assert isinstance(answer, Generated)
    assert np.array_equal(np.asarray(last[-1]), np.asarray(answer.image))


def family(name: str) -> Any:
    """A pipeline of a newer family as far as it takes to read its options off: tiny networks, and no text encoders."""
    import inspect

    with importing():
        import diffusers

    blocks: dict[str, Any] = {"block_out_channels": (8,) * 4, "latent_channels": 4, "norm_num_groups": 4}
    blocks |= {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    layers: dict[str, Any] = {"num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32}
    vae = diffusers.AutoencoderKL(**blocks, shift_factor=0.1, scaling_factor=0.3)
    extra: dict[str, Any] = {}
    torch.manual_seed(0)
    if name in ("schnell", "dev"):
        kind = "FluxPipeline"
        small = {"in_channels": 16, "num_single_layers": 1, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)}
        network = diffusers.FluxTransformer2DModel(patch_size=1, guidance_embeds=name == "dev", **small, **layers)
    elif name in ("klein", "klein-base"):
        kind, extra = "Flux2KleinPipeline", {"is_distilled": name == "klein"}
        vae = diffusers.AutoencoderKLFlux2(**blocks)
        vae.bn.running_mean.normal_()
        vae.bn.running_var.uniform_(0.5, 2.0)
        small = {"in_channels": 16, "num_single_layers": 1, "axes_dims_rope": (4, 4, 4, 4), "timestep_guidance_channels": 32}
        network = diffusers.Flux2Transformer2DModel(patch_size=1, guidance_embeds=False, **small, **layers)
    elif name == "z-image":
        kind = "ZImagePipeline"
        small = {"in_channels": 4, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 32}
        network = diffusers.ZImageTransformer2DModel(**small, axes_dims=[4, 4, 8], axes_lens=[64, 32, 32])
    else:
        kind = "QwenImagePipeline"
        network = diffusers.QwenImageTransformer2DModel(patch_size=2, in_channels=16, out_channels=4, axes_dims_rope=(4, 4, 8), **layers)
        statistics = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [2.0, 0.5, 1.5, 1.0]}
        vae = diffusers.AutoencoderKLQwenImage(base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics)
    parameters = inspect.signature(getattr(diffusers, kind).__init__).parameters
    empty = {key: None for key, one in parameters.items() if key != "self" and one.default is inspect.Parameter.empty}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return getattr(diffusers, kind)(**{**empty, "vae": vae, "transformer": network, "scheduler": scheduler, **extra})


@pytest.mark.parametrize(
    ("name", "guidance", "negative", "threshold"),
    [
        ("schnell", None, False, 1.0),
        ("dev", "guidance_scale", False, 1.0),
        ("klein", None, False, 1.0),
        ("klein-base", "guidance_scale", False, 1.0),
        ("z-image", "guidance_scale", True, 0.0),
        ("qwen", "true_cfg_scale", True, 1.0),
    ],
)
def test_what_a_newer_family_ignores_is_refused(name: str, guidance: str | None, negative: bool, threshold: float) -> None:
    has = options(family(name))
    assert (has.guidance_name, has.negative, has.threshold) == (guidance, negative, threshold)
    assert (has.multiple, has.size) == (16, (1024, 1024))

    def take(**changes: Any) -> Request:
        return resolve(Request("a tree", **changes), has, None, ["euler"], "euler", name)

    if guidance is None:
        with pytest.raises(UsageError, match="ignores guidance, as it was distilled to do without"):
            take(guidance=3.0)
    else:
        assert take(guidance=3.0).guidance == 3.0
    if not negative:
        with pytest.raises(UsageError, match=f"{name} ignores a negative prompt; leave it out"):
            take(negative="a car")
    else:
        assert take(negative="a car", guidance=3.0).negative == "a car"
        with pytest.raises(UsageError, match="ignores a negative prompt at guidance 0"):
            take(negative="a car", guidance=0.0)
    assert take().negative == (" " if name == "qwen" else None)
    with pytest.raises(UsageError, match="ignores clip skip"):
        take(clip_skip=1)
    with pytest.raises(UsageError, match="sides are multiples of 16, so use 32 x 16"):
        take(size=(24, 8))


@pytest.mark.parametrize("name", ["dev", "klein", "z-image", "qwen"])
@torch.no_grad()
def test_latents_of_a_newer_family_are_unpacked_for_a_preview_as_it_packs_them(name: str) -> None:
    pipeline = family(name)
    clean = torch.randn(2, 4, 8, 4, generator=torch.Generator().manual_seed(1))  # as the VAE takes them: 64 high, 32 wide
    config = pipeline.vae.config
    if name == "qwen":
        std, mean = (torch.tensor(config[key]).view(1, 4, 1, 1) for key in ("latents_std", "latents_mean"))
        latents = pipeline._pack_latents(((clean - mean) / std)[:, :, None], 2, 4, 8, 4)
        expected = pipeline.vae.decode(clean[:, :, None], return_dict=False)[0][:, :, 0]
    elif name == "klein":
        patches = pipeline._patchify_latents(clean)
        norm = pipeline.vae.bn
        scale = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + config.batch_norm_eps)
        latents = pipeline._pack_latents((patches - norm.running_mean.view(1, -1, 1, 1)) / scale)
        expected = pipeline.vae.decode(clean, return_dict=False)[0]
    else:
        latents = (clean - config.shift_factor) * config.scaling_factor
        latents = pipeline._pack_latents(latents, 2, 4, 8, 4) if name == "dev" else latents
        expected = pipeline.vae.decode(clean, return_dict=False)[0]
    images = decode(pipeline, latents, [Request("a tree", size=(32, 64))] * 2)
    wanted = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    assert [image.size for image in images] == [(32, 64)] * 2
    assert np.abs(np.stack([np.asarray(image) for image in images]).astype(float) - wanted).max() <= 1
    assert wanted.std() > 1


def test_it_is_loaded_through_the_package_too(folder: Path) -> None:
    import visiontk

    generator = visiontk.load("generate", str(folder), CPU, task="image2image")
    assert generator.tasks == {"text2image", "image2image", "inpaint"}
    assert 1 <= generator.batch_size <= 16
    assert visiontk.load("generate", str(folder), Runtime(device="cpu", batch_size=3)).batch_size == 3
