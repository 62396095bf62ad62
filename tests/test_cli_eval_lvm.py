"""`visiontk eval lvm`: perplexities against transformers' own LLaMA, answers against the model's own, and what a sentence is."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import visiontk
from tests.lvm_models import SIDE, TOKENS, make_lvm
from visiontk.adapters.lvm import Sampling, VisualSentenceModel
from visiontk.errors import OutOfMemory
from visiontk.metrics import sentences as figures
from visiontk.metrics.perceptual import feature_maps, perceptual_distance

if TYPE_CHECKING:
    from tests.conftest import Record, Result, Run

FRAMES = 6  # of the context
CODES = 24
SIX_DIGITS = 2e-5

Evaluate = Callable[..., "Result"]
Costs = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lvm(tmp_path_factory.mktemp("lvm") / "tiny", frames=FRAMES)


@pytest.fixture(scope="module")
def lvm(folder: Path) -> VisualSentenceModel:
    model = visiontk.load("lvm", str(folder), visiontk.Runtime(device="cpu", dtype="fp32"))
    assert isinstance(model, VisualSentenceModel)
    return model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def loaded() -> Iterator[None]:
    """Models are read once in this module, as long as they are asked for with the same name and runtime."""
    from visiontk.adapters import classify, lvm

    with pytest.MonkeyPatch.context() as patch:
        for adapter in (classify, lvm):
            patch.setattr(adapter, "load", functools.cache(adapter.load))
        yield


@pytest.fixture
def evaluate(run: Run, folder: Path, loaded: None) -> Evaluate:
    def call(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        return run("eval", "lvm", "-m", folder, *arguments, stdin=stdin)

    return call


def drawn(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Coarse noise, which the codes tell apart."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)


def save_frames(name: str, count: int, seed: int) -> list[Image.Image]:
    Path(name).mkdir(parents=True)
    frames = [drawn(seed + number) for number in range(count)]
    for number, frame in enumerate(frames):
        frame.save(f"{name}/{number:05d}.png")
    return frames


@functools.cache
def bare_llama(folder: Path) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder / "llama", dtype=torch.float32).eval()


def bare_costs(lvm: VisualSentenceModel, folder: Path, frames: Sequence[Image.Image]) -> Costs:
    """Nats of each token (frames, tokens), by transformers' own forward pass; the first is NaN."""
    llama, codes = bare_llama(folder), lvm.encode(frames)
    with torch.inference_mode():
        chances = llama(codes.reshape(1, -1)).logits[0, :-1, :CODES].log_softmax(-1)
    costs = -chances.gather(1, codes.reshape(-1)[1:, None])[:, 0].double().numpy()
    return np.concatenate([[math.nan], costs]).reshape(len(frames), TOKENS)


def of(result: Result, protocol: str = figures.PERPLEXITY) -> list[Record]:
    """The lines of a protocol but for the totals."""
    return [line for line in result.records[:-1] if line.get("protocol") == protocol]


# --- perplexity


def test_perplexity_by_context_is_that_of_transformers(evaluate: Evaluate, lvm: VisualSentenceModel, folder: Path) -> None:
    costs = [bare_costs(lvm, folder, save_frames(f"clips/{name}", 5, seed)) for name, seed in (("a", 10), ("b", 90))]
    costs.append(bare_costs(lvm, folder, save_frames("clips/c", 3, 200)))
    result = evaluate("clips")
    assert result.code == 0, result.stderr
    for context, line in enumerate(of(result)):
        known = np.concatenate([one[context] for one in costs if len(one) > context])
        known = known[~np.isnan(known)]
        assert line["context"] == context and (line["task"], line["kind"]) == ("frames", "frame")
        assert line["frames"] == (3 if context < 3 else 2) and line["tokens"] == len(known)
        assert line["nll"] == pytest.approx(known.mean(), rel=1e-4)
        assert line["perplexity"] == pytest.approx(math.exp(known.mean()), rel=1e-4)
    whole = np.concatenate([one.ravel() for one in costs])
    totals = result.records[-1]
    assert (totals["sentences"], totals["frames"], totals["tokens"], totals["failed"]) == (3, 13, 13 * TOKENS - 3, 0)
    assert totals["perplexity"] == pytest.approx(math.exp(np.nanmean(whole)), rel=1e-4)
    assert totals["mean_perplexity"] == pytest.approx(np.mean([math.exp(np.nanmean(one)) for one in costs]), rel=1e-4)
    assert totals["model"] == str(folder) and totals["context_frames"] == FRAMES and totals["revision"].startswith("sha256:")


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_codes(evaluate: Evaluate, folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, "flat")
    weights = load_file("flat/llama/model.safetensors")
    weights["lm_head.weight"] = torch.zeros_like(weights["lm_head.weight"])
    save_file(weights, "flat/llama/model.safetensors", {"format": "pt"})
    save_frames("clip", 4, 0)
    result = evaluate("clip", "-m", "flat")
    assert [line["perplexity"] for line in of(result)] == pytest.approx([CODES] * 4, rel=1e-5)


def test_the_two_networks_may_be_named_apart(evaluate: Evaluate, run: Run, folder: Path) -> None:
    save_frames("row", 4, seed=1)
    apart = run("eval", "lvm", "-m", folder / "llama", "--vqgan", folder / "vqgan", "row")
    assert of(apart) == of(evaluate("row"))
    assert (apart.records[-1]["model"], apart.records[-1]["vqgan"]) == (str(folder / "llama"), str(folder / "vqgan"))


def test_stride_and_frames_choose_frames(evaluate: Evaluate, bunny: Path) -> None:
    from visiontk.media.video import read_frames

    Path("same").mkdir()
    for number, frame in enumerate(read_frames(str(bunny), every=3)):
        if number == 4:
            break
        frame.image.save(f"same/{number}.png")
    video = evaluate(bunny, "--stride", "3", "--frames", "4")
    assert [line["context"] for line in of(video)] == [0, 1, 2, 3]
    assert of(video) == of(evaluate("same"))
    assert len(of(evaluate(bunny))) == FRAMES  # no more than the context holds


def test_pictures_that_follow_one_another_are_one_sentence(evaluate: Evaluate) -> None:
    save_frames("clip", 3, 5)
    names = [f"clip/0000{number}.png" for number in range(3)]
    wanted = of(evaluate("clip"))
    assert len(wanted) == 3
    assert of(evaluate(*names)) == of(evaluate("clip/*.png")) == wanted
    lines = b"".join(json.dumps({"path": name}).encode() + b"\n" for name in names)
    assert of(evaluate("-", stdin=lines)) == of(evaluate("-", stdin="\n".join(names).encode())) == wanted
    first, second, third = names
    for mixed in (
        "\n\n".join(lines.decode().splitlines()),
        f'{{"path": "{first}"}}\n{second}\n{{"path": "{third}"}}\n',
        f'{first}\n \n{{"path": "{second}"}}\n{{"note": "no path"}}\n{third}',
        "\r\n".join(names),
    ):
        assert of(evaluate("-", stdin=mixed.encode())) == wanted, mixed
    assert of(evaluate("-", stdin=b'{"path": "clip", "tiny": {}}\n')) == wanted
    backwards = of(evaluate(*names[::-1]))
    assert [line["perplexity"] for line in backwards] != [line["perplexity"] for line in wanted]


def test_an_animation_is_a_sentence_of_its_own(evaluate: Evaluate) -> None:
    first, *rest = save_frames("clip", 3, 5)
    for name in ("a.webp", "b.webp"):
        first.save(name, save_all=True, append_images=rest, lossless=True)
    wanted = of(evaluate("clip"))
    assert of(evaluate("a.webp")) == wanted
    result = evaluate("a.webp", "b.webp", "--each")
    assert [line["path"] for line in result.records[:2]] == ["a.webp", "b.webp"] and result.records[-1]["sentences"] == 2


def test_a_video_may_come_through_the_pipe(evaluate: Evaluate, bunny: Path) -> None:
    assert of(evaluate("-", "--frames", "2", stdin=bunny.read_bytes())) == of(evaluate(bunny, "--frames", "2"))


def test_more_frames_than_the_context_are_told(evaluate: Evaluate, bunny: Path) -> None:
    result = evaluate(bunny, "--frames", str(FRAMES + 1))
    assert f"--frames is {FRAMES + 1}" in result.stderr and of(result) == of(evaluate(bunny))
    assert "--frames" not in evaluate(bunny, "--frames", str(FRAMES)).stderr


def test_one_picture_in_the_pipe_is_no_sentence(evaluate: Evaluate) -> None:
    save_frames("clip", 1, 0)
    result = evaluate("-", stdin=next(Path("clip").iterdir()).read_bytes())
    assert result.code == 2 and "the pipe holds one picture" in result.error


def test_each_sentence_may_have_its_line(evaluate: Evaluate, lvm: VisualSentenceModel, folder: Path) -> None:
    costs = [bare_costs(lvm, folder, save_frames(name, 2, seed)) for name, seed in (("a", 1), ("b", 50))]
    first, second, *_ = evaluate("a", "b", "--each").records
    for line, name, one in ((first, "a", costs[0]), (second, "b", costs[1])):
        assert (line["path"], line["task"], line["frames"], line["tokens"]) == (name, "frames", 2, 2 * TOKENS - 1)
        assert line["perplexity"] == pytest.approx(math.exp(np.nanmean(one)), rel=1e-4)


# --- pairs


def save_prompt(name: str, task: str, count: int, **more: Any) -> Record:
    """A line of `visiontk lvm-prompt` with so many frames of noise and a truth."""
    files = []
    for number in range(count + 1):
        files.append(f"{name}-{number}.png")
        drawn(hash_of(name) + number, (40, 30)).save(files[-1])
    return {"path": f"{name}.png", "lvm_prompt": {"task": task, "pairs": count // 2, "frames": files[:-1], "truth": files[-1], **more}}


def hash_of(name: str) -> int:
    return sum(ord(letter) * 100 for letter in name)


def to_lines(records: Sequence[Record]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def opened(files: Sequence[str]) -> list[Image.Image]:
    return [Image.open(file).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for file in files]


def answer(lvm: VisualSentenceModel, record: Record, sampling: Sampling) -> npt.NDArray[np.uint8]:
    prompt = lvm.encode(opened(record["lvm_prompt"]["frames"]))
    [frame] = next(lvm.continue_([prompt], 1, sampling))
    return np.asarray(frame.image)


GREEDY = Sampling(greedy=True)


def test_pictures_are_compared_by_their_squared_error_and_by_features(evaluate: Evaluate, lvm: VisualSentenceModel, folder: Path) -> None:
    records = [save_prompt(name, "grayscale", count) for name, count in (("a", 3), ("b", 5), ("c", 3))]
    result = evaluate("-", "--each", stdin=to_lines(records))
    assert result.code == 0, result.stderr
    classifier: Any = visiontk.load("classify", "tiny-vit", visiontk.Runtime(device="cpu", dtype="fp32"))
    errors, distances = [], []
    for record, line in zip(records, result.records, strict=False):
        made = answer(lvm, record, GREEDY)
        [truth] = opened([record["lvm_prompt"]["truth"]])
        errors.append((((made / 255) - np.asarray(truth) / 255) ** 2).mean())
        maps = [feature_maps(classifier.model, classifier.normalise([classifier.whole(image)])) for image in (Image.fromarray(made), truth)]
        distances.append(float(perceptual_distance(*maps)))
        costs = bare_costs(lvm, folder, [*opened(record["lvm_prompt"]["frames"]), truth])
        assert line["mse"] == pytest.approx(errors[-1], rel=SIX_DIGITS)
        assert line["distance"] == pytest.approx(distances[-1], rel=1e-4)
        assert line["answer_perplexity"] == pytest.approx(math.exp(costs[-1].mean()), rel=1e-4)
        assert line["path"] == record["path"] and line["frames"] == len(record["lvm_prompt"]["frames"]) + 1
    [line] = of(result, figures.PAIRS)
    assert (line["task"], line["answers"], line["pairs"]) == ("grayscale", 3, [1, 2])
    assert line["mse"] == pytest.approx(np.mean(errors), rel=SIX_DIGITS)
    assert line["distance"]["value"] == pytest.approx(np.mean(distances), rel=1e-4)
    assert line["distance"]["name"] == "LPIPS-like" and line["distance"]["features"] == "tiny-vit"
    assert [one["kind"] for one in of(result)] == ["image", "answer"] * 3
    assert [one["frames"] for one in of(result)] == [3, 3, 3, 3, 1, 1]
    assert result.records[-1]["sampling"] == {"greedy": True} and result.records[-1]["features"]["model"] == "tiny-vit"


def test_the_borders_of_pictures_are_seen_too(evaluate: Evaluate) -> None:
    """Also by a network whose pictures lose their borders where they are classified."""
    from commands.eval_lvm_measure import _distances

    classifier: Any = visiontk.load("classify", "efficientnet-lite0", visiontk.Runtime(device="cpu", dtype="fp32"))
    assert classifier.data_config["crop_pct"] < 0.9
    picture = drawn(1, (256, 256))
    framed = Image.new("RGB", picture.size, (255, 0, 255))
    framed.paste(picture.crop((12, 12, 244, 244)), (12, 12))
    assert classifier.whole(picture).shape == (1, 3, 224, 224)
    same, other = _distances(classifier, [picture, picture], [picture, framed])
    assert same == pytest.approx(0, abs=1e-6) and other > 0.01


def test_images_that_were_made_from_a_prompt_are_no_prompts(evaluate: Evaluate) -> None:
    prompt = save_prompt("a", "rotate", 3)
    made = {**prompt, "path": "a-answer.png", "lvm": {"model": "m", "revision": "r", "sentence": prompt["lvm_prompt"]["frames"]}}
    result = evaluate("-", "--each", stdin=to_lines([prompt, made]))
    assert result.code == 3 and of(result, figures.PAIRS)[0]["answers"] == 1
    error = result.records[1]["error"] if "error" in result.records[1] else result.records[1]["lvm"]["error"]
    assert error["kind"] == "bad_record" and "send the lines of `visiontk lvm-prompt` themselves" in error["message"]


def test_no_more_is_answered_at_once_than_there_is_memory_for(
    evaluate: Evaluate, lvm: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = import_module("visiontk.commands.lvm_room")

    lines = to_lines([save_prompt(name, "segment", 3, palette=[[0, 0, 0], [255, 255, 255]]) for name in "abcd"])
    asked: list[int] = []
    whole = VisualSentenceModel.continue_

    def noted(self: Any, sentences: Any, *rest: Any) -> Any:
        asked.append(len(sentences))
        yield from whole(self, sentences, *rest)

    monkeypatch.setattr(VisualSentenceModel, "continue_", noted)
    for rows, wanted in ((9.5, [4]), (3.5, [3, 1]), (0.5, [1, 1, 1, 1])):
        monkeypatch.setattr(room, "available_memory", lambda rows=rows: int(rows * lvm.row_bytes / room.SHARE))
        assert evaluate("-", stdin=lines).code == 0
        assert asked == wanted
        asked.clear()


def test_memory_that_runs_out_halves_the_sentences_and_the_figures_stay(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = to_lines([save_prompt(name, "segment", 3, palette=[[0, 0, 0], [255, 255, 255]]) for name in "abcd"])
    wanted = evaluate("-", stdin=lines)
    whole = VisualSentenceModel.continue_

    def small(self: Any, sentences: Any, *rest: Any) -> Any:
        if len(sentences) > 1:
            raise OutOfMemory("the device is out of memory")
        yield from whole(self, sentences, *rest)

    monkeypatch.setattr(VisualSentenceModel, "continue_", small)
    found = evaluate("-", stdin=lines)
    assert found.code == 0 and found.records == wanted.records
    assert "memory ran out, so from then on they were answered 1 at a time; start with --batch-size 1" in found.stderr


def test_a_perplexity_beyond_all_numbers_is_left_out(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = VisualSentenceModel.score
    monkeypatch.setattr(VisualSentenceModel, "score", lambda self, sentence: whole(self, sentence) + 800)
    result = evaluate("-", "--each", stdin=to_lines([save_prompt("a", "rotate", 3)]))
    assert result.code == 0, result.stderr
    assert all(record["nll"] > 800 for record in result.records if "nll" in record)
    assert not any("perplexity" in name for record in result.records for name in record if name != "protocol")


def test_masks_are_compared_by_the_nearest_colours_of_the_palette(evaluate: Evaluate, lvm: VisualSentenceModel) -> None:
    palette = [[25, 25, 25], [214, 40, 40], [45, 105, 215]]
    records = [save_prompt(name, "segment", 3, palette=palette) for name in ("a", "b")]
    ious = []
    for number, record in enumerate(records):
        truth = np.zeros((32, 32, 3), np.uint8) + np.uint8(25)
        truth[8:24, 8:24] = palette[1]
        if number:
            truth[:, 24:] = palette[2]
        Image.fromarray(truth).save(record["lvm_prompt"]["truth"])
        made = answer(lvm, record, GREEDY).astype(int)
        near = np.stack([np.linalg.norm(made - colour, axis=-1) for colour in palette]).argmin(0)
        square = np.zeros((SIDE, SIDE), bool)
        square[4:12, 4:12] = True
        column = np.zeros((SIDE, SIDE), bool)
        column[:, 12:] = True
        for thing, mask in ((1, square), (2, column))[: 1 + number]:
            ious.append(((near == thing) & mask).sum() / ((near == thing) | mask).sum())
    result = evaluate("-", stdin=to_lines(records))
    [line] = of(result, figures.PAIRS)
    assert line["mIoU"] == pytest.approx(np.mean(ious), rel=SIX_DIGITS) and line["things"] == 3
    assert "mse" not in line and "distance" not in line


def test_a_model_that_answers_right_has_the_best_figures(
    evaluate: Evaluate, lvm: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visiontk.adapters.lvm import Frame

    palette = [[0, 0, 0], [250, 250, 250]]
    records = [save_prompt("a", "segment", 3, palette=palette), save_prompt("b", "rotate", 3), save_prompt("c", "rotate", 3)]
    half = np.zeros((SIDE, SIDE, 3), np.uint8)
    half[:, 5:] = 250
    Image.fromarray(half).save(records[0]["lvm_prompt"]["truth"])
    truths: dict[bytes, Image.Image] = {}

    def oracle(self: VisualSentenceModel, prompts: Sequence[torch.Tensor], count: int, sampling: Sampling) -> Any:
        yield [Frame(prompt[0], truths[prompt.numpy().tobytes()], 0.0, (), number, 0, 0) for number, prompt in enumerate(prompts)]

    for record in records:
        prompt = lvm.encode(opened(record["lvm_prompt"]["frames"]))
        [truths[prompt.numpy().tobytes()]] = opened([record["lvm_prompt"]["truth"]])
    monkeypatch.setattr(VisualSentenceModel, "continue_", oracle)
    lines = {line["task"]: line for line in of(evaluate("-", stdin=to_lines(records)), figures.PAIRS)}
    assert lines["segment"]["mIoU"] == 1 and lines["rotate"]["mse"] == 0
    assert lines["rotate"]["distance"]["value"] == pytest.approx(0, abs=1e-6)


def test_answers_may_be_drawn(evaluate: Evaluate, lvm: VisualSentenceModel) -> None:
    record = save_prompt("a", "edges", 3)
    sampling = Sampling(0.7, 5, 0.9, seed=3)
    [truth] = opened([record["lvm_prompt"]["truth"]])
    wanted = figures.squared_error(answer(lvm, record, sampling), np.asarray(truth))
    result = evaluate("-", "--temperature", "0.7", "--top-k", "5", "--top-p", "0.9", "--seed", "3", stdin=to_lines([record]))
    assert of(result, figures.PAIRS)[0]["mse"] == pytest.approx(wanted, rel=SIX_DIGITS)
    assert result.records[-1]["sampling"] == {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 3}
    greedy = figures.squared_error(answer(lvm, record, GREEDY), np.asarray(truth))
    assert wanted != pytest.approx(greedy, rel=1e-3)


def test_without_a_truth_there_is_perplexity_alone(evaluate: Evaluate) -> None:
    record = save_prompt("a", "segment", 5, palette=[[0, 0, 0], [9, 9, 9]])
    del record["lvm_prompt"]["truth"]
    result = evaluate("-", stdin=to_lines([record]))
    assert result.code == 0 and of(result, figures.PAIRS) == []
    assert [line["kind"] for line in of(result)] == ["image", "answer", "image", "answer", "image"]


def test_the_network_of_the_distance_is_loaded_when_a_picture_needs_it(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.adapters import classify

    asked: list[str] = []
    whole = classify.load

    def load(name: str, *arguments: Any) -> Any:
        asked.append(name)
        return whole(name, *arguments)

    monkeypatch.setattr(classify, "load", load)
    save_frames("clip", 2, 0)
    masks = save_prompt("a", "segment", 3, palette=[[0, 0, 0], [9, 9, 9]])
    result = evaluate("clip", "-", "--features", "no/such-network", stdin=to_lines([masks]))
    assert result.code == 0 and asked == [] and "features" not in result.records[-1]
    photos = to_lines([save_prompt(name, "rotate", 3) for name in "bc"])
    assert evaluate("-", "-b", "1", stdin=photos).records[-1]["features"]["model"] == "tiny-vit" and asked == ["tiny-vit"]
    refused = evaluate("-", "--features", "no/such-network", stdin=photos)
    assert refused.code == 4 and "no/such-network" in refused.error


def test_of_more_pairs_than_the_context_holds_the_last_ones_count(evaluate: Evaluate) -> None:
    long = save_prompt("a", "rotate", 9)
    short = {"path": "a.png", "lvm_prompt": {**long["lvm_prompt"], "frames": long["lvm_prompt"]["frames"][4:]}}
    found, wanted = (evaluate("-", stdin=to_lines([record])) for record in (long, short))
    assert found.records == wanted.records
    assert "1 sentences have more pairs than 6 frames of context hold" in found.stderr and wanted.stderr == ""


def test_batches_of_any_size_give_the_same_figures(evaluate: Evaluate) -> None:
    records = [save_prompt(name, "rotate", count) for name, count in (("a", 3), ("b", 5), ("c", 3), ("d", 3))]
    Path("lines.jsonl").write_bytes(to_lines(records))
    save_frames("clip", 3, 3)
    one, many = (evaluate("lines.jsonl", "clip", "--batch-size", size) for size in ("1", "4"))
    assert len(one.records) == len(many.records)
    for first, second in zip(one.records, many.records, strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            if isinstance(value, dict):  # of a distance
                number, other = ((one.pop("value", 0.0)) for one in (value, second[key]))
                assert number == pytest.approx(other, rel=1e-4) and value == second[key]
            else:
                assert value == (pytest.approx(second[key], rel=1e-4) if isinstance(value, float) else second[key])


def test_lvm_prompt_is_measured_in_a_pipe(run: Run, evaluate: Evaluate) -> None:
    save_frames("photos", 4, 0)
    made = run("lvm-prompt", "inpaint", "photos")
    line = of(evaluate("-", stdin=made.stdout), figures.PAIRS)[0]
    assert (line["task"], line["answers"], line["pairs"]) == ("inpaint", 1, [2, 2])  # of the three, two fit the context


# --- metrics


def test_perplexity_counts_tokens_and_not_frames() -> None:
    by_context = figures.ByContext()
    by_context.add(np.array([[math.nan, 1.0], [2.0, 4.0]]))
    by_context.add(np.array([[math.nan, 5.0]]))
    lines = list(by_context)
    assert [(context, costs.frames, costs.tokens, costs.mean) for context, costs in lines] == [(0, 2, 2, 3.0), (1, 1, 2, 3.0)]
    assert by_context.whole().tokens == 4 and by_context.whole().perplexity == pytest.approx(math.exp(3))


def test_pixels_belong_to_the_nearest_colour() -> None:
    picture = np.array([[[10, 0, 0], [100, 100, 100], [127, 127, 127], [255, 255, 254]]], np.uint8)
    assert figures.colour_map(picture, [[0, 0, 0], [255, 0, 0], [255, 255, 255]]).tolist() == [[0, 0, 0, 2]]
    truth, found = np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 2]])
    assert figures.mask_ious(found, truth) == [0.5, 0.5] and figures.mask_ious(truth, truth) == [1, 1]


def test_the_distance_of_features_is_half_of_lpips_without_weights() -> None:
    chance = torch.Generator().manual_seed(0)
    first, second = ([torch.randn(3, width, 4, 5, generator=chance) for width in (7, 2)] for _ in range(2))
    wanted = []
    for number in range(3):  # Zhang et al. 2018, equation 1, written out
        layers = []
        for one, other in zip(first, second, strict=True):
            places = [
                ((a / a.norm() - b / b.norm()) ** 2).sum()
                for a, b in zip(one[number].flatten(1).T, other[number].flatten(1).T, strict=True)
            ]
            layers.append(sum(places) / len(places))
        wanted.append(float(sum(layers)) / 2 / len(layers))
    assert perceptual_distance(first, second).tolist() == pytest.approx(wanted, rel=1e-5)
    nothing = [torch.zeros(1, 4, 2, 2)]
    assert perceptual_distance(nothing, nothing).tolist() == [0]
    assert perceptual_distance([torch.ones(1, 4, 2, 2)], [-torch.ones(1, 4, 2, 2)]).tolist() == pytest.approx([2])


# --- what is shown


def test_the_plot_shows_frames_and_answers_by_context(evaluate: Evaluate) -> None:
    save_frames("clip", 4, 0)
    result = evaluate("clip", "-", "--plot", "plot.png", stdin=to_lines([save_prompt("a", "segment", 3, palette=[[0, 0, 0], [9, 9, 9]])]))
    assert result.code == 0, result.stderr
    assert Image.open("plot.png").size == (900, 600) and "the plot is in plot.png" in result.stderr
    view = import_module(f"{visiontk.__name__}.commands.eval_lvm_view")
    [axis] = view.plot(of(result), "title").axes
    drawn_lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert drawn_lines == {
        "frames": [[line["context"], line["perplexity"]] for line in of(result) if line["task"] == "frames"],
        "segment, answers": [[line["context"], line["perplexity"]] for line in of(result) if line["kind"] == "answer"],
    }
    again = evaluate("clip", "--plot", "plot.png")
    assert again.code == 2 and "plot.png exists; pass --overwrite" in again.error
    assert evaluate("clip", "--plot", "plot.png", "--overwrite").code == 0


def test_other_formats(evaluate: Evaluate) -> None:
    save_frames("clip", 2, 0)
    record = save_prompt("a", "rotate", 3)
    stdin = to_lines([record])
    result = evaluate("clip", "-", "--format", "csv", stdin=stdin)
    lines = evaluate("clip", "-", stdin=stdin).records
    heading, *rows = csv.reader(io.StringIO(result.stdout.decode()))
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        cells = dict(zip(heading, row, strict=True))
        assert cells["protocol"] == line["protocol"] and cells["perplexity"] == str(line["perplexity"])
        assert cells["distance"] == (str(line["distance"]["value"]) if "distance" in line else "")
        assert cells["most_pairs"] == ("1" if "pairs" in line else "")
    table = evaluate("clip", "-", "--each", "--format", "table", stdin=stdin).stdout.decode()
    assert "2 sentences, 6 frames: perplexity" in table and "rotate" in table


# --- what cannot be measured


def test_the_frame_that_cannot_be_read_is_named(evaluate: Evaluate) -> None:
    save_frames("clip", 4, 0)
    Path("clip/00002.png").write_bytes(b"")
    for stride in ("1", "2", "3"):  # those that are left out are read, too
        line = evaluate("clip", "--each", "--stride", stride).records[0]
        assert line["path"] == "clip" and line["error"]["message"] == "clip/00002.png: the file is empty"


def test_a_model_that_gives_no_numbers_has_no_figures(evaluate: Evaluate, run: Run, folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = load_file(broken / "llama" / "model.safetensors")
    weights["lm_head.weight"].fill_(float("nan"))
    save_file(weights, broken / "llama" / "model.safetensors", {"format": "pt"})
    save_frames("clip", 2, 0)
    result = run("eval", "lvm", "-m", broken, "clip", "--each")
    assert result.code == 3 and result.error == "no sentence could be measured; the warnings, and the lines of --each, say why"
    assert "clip: " in result.stderr and "1 of 1 sentences could not be measured" in result.stderr
    assert any("gave NaN or infinity in fp32" in line["error"]["message"] for line in result.records if "error" in line)


def test_a_context_without_room_for_a_pair_is_told(run: Run, tmp_path: Path) -> None:
    small = make_lvm(tmp_path / "small", frames=3)
    line = save_prompt("a", "rotate", 3)
    result = run("eval", "lvm", "-m", small, "-", "--each", stdin=to_lines([line]))
    assert result.code == 3 and result.records[0]["error"]["message"].startswith(
        "the model sees 3 frames at once, and a pair, a query and its"
    )


def test_sentences_that_fail_leave_the_others_alone(evaluate: Evaluate) -> None:
    save_frames("clip", 2, 0)
    good = save_prompt("a", "rotate", 3)
    gone = {"path": "b.png", "lvm_prompt": {**good["lvm_prompt"], "frames": ["gone.png", *good["lvm_prompt"]["frames"][1:]]}}
    bad: list[Record] = [
        {"path": "c.png", "lvm_prompt": {"error": {"kind": "missing", "message": "there is no such file"}}},
        {"path": "d.png", "lvm_prompt": {**good["lvm_prompt"], "frames": good["lvm_prompt"]["frames"][:2]}},
        {"path": "e.png", "lvm_prompt": {**good["lvm_prompt"], "task": "segment"}},
        {"path": "clip.mp4", "frame": 3},
    ]
    result = evaluate("-", "--each", stdin=to_lines([gone, *bad, good]) + b'{"torn": \nnowhere\nclip\n')
    assert result.code == 3
    errors = [line["error"]["message"] for line in result.records if "error" in line]
    assert errors[0] == "gone.png: there is no such file" and "its prompt was not made" in errors[1]
    assert (
        "2 frames, which are no pairs and a query" in errors[2]
        and "not as `visiontk lvm-prompt` writes it" in errors[3]
        and "one frame of a video" in errors[4]
    )
    assert "not a JSON line" in errors[5] and errors[6] == "nowhere: there is no such file" and len(errors) == 7
    totals = result.records[-1]
    assert (totals["sentences"], totals["failed"]) == (2, 7) and "7 of 9 sentences could not be measured" in result.stderr


def test_where_every_sentence_fails_the_warnings_say_why(evaluate: Evaluate) -> None:
    Path("empty").mkdir()
    result = evaluate("empty", "-", stdin=to_lines([{"path": "a.png", "lvm_prompt": 5}]))
    assert (result.code, result.stdout, result.error) == (
        3,
        b"",
        "no sentence could be measured; the warnings, and the lines of --each, say why",
    )
    assert "empty: the folder holds no images or videos" in result.stderr and 'its "lvm_prompt" has no list of "frames"' in result.stderr


def test_lines_without_a_path_alone_are_no_sentence(evaluate: Evaluate) -> None:
    result = evaluate("-", stdin=b'{"note": 1, "lvm": null}\n{"path": "-"}\n')
    assert result.code == 2 and "2 lines without a path were left out" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "no*where", "-m", "not-loaded"], "there is no nowhere, no*where; name folders of frames"),
        (["clip", "lines.jsonl", "-m", "not-loaded"], "there is no lines.jsonl"),
        (["empty.jsonl"], "there is no sentence that can be measured"),
        (["clip", "--plot", "plot.svg"], "the plot is a PNG"),
        (["clip", "--temperature", "0"], "temperature"),
        (["clip", "--top-p", "2"], "top-p"),
        (["clip", "--format", "xml"], "format"),
        (["clip", "--frames", "0"], "--frames"),
    ],
)
def test_what_makes_no_sense(evaluate: Evaluate, arguments: list[str], words: str) -> None:
    save_frames("clip", 2, 0)
    Path("empty.jsonl").touch()
    result = evaluate(*arguments)
    assert result.code == 2 and words in result.error and result.stdout == b""


def test_a_model_that_is_not_there(run: Run) -> None:
    save_frames("clip", 2, 0)
    result = run("eval", "lvm", "clip", "-m", "no/such-model")
    assert result.code == 4 and "no/such-model" in result.error
