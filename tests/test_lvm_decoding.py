"""Decoding against transformers: greedy tokens, distributions, candidates, sliding, scores."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from tests.lvm_models import TOKENS, make_lvm
from visiontk.adapters import lvm_blocks, lvm_cache
from visiontk.adapters.lvm import Sampling, VisualSentenceModel, load
from visiontk.adapters.lvm_cache import KeysValues, Shape
from visiontk.adapters.lvm_decoding import Decoder, compile_mode
from visiontk.adapters.lvm_sampling import choose, draws, probabilities
from visiontk.adapters.lvm_sentences import Continuation
from visiontk.errors import DeviceError
from visiontk.runtime import Runtime

CODES, FRAMES = 24, 6
CPU = Runtime(device="cpu", dtype="fp32")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=[4, 2], ids=["as many heads of keys", "grouped queries"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token 2 is the end in its configuration, as in that of the public model, and one of the codes."""
    return make_lvm(tmp_path_factory.mktemp("lvm"), kv_heads=request.param, eos=2, frames=FRAMES)


@pytest.fixture(scope="module")
def model(folder: Path) -> VisualSentenceModel:
    return load(str(folder), CPU)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    """The same LLaMA as transformers alone reads it, with nothing of ours."""
    from transformers import LlamaForCausalLM

    network = LlamaForCausalLM.from_pretrained(folder / "llama").eval()
    network.generation_config.eos_token_id = None
    return network


def sentence(seed: int, frames: int) -> Tensor:
    return torch.randint(0, CODES, (frames, TOKENS), generator=torch.Generator().manual_seed(seed))


def generated(reference: Any, prompt: Tensor, count: int) -> Tensor:
    """What transformers' generate makes of a prompt (tokens,), the likeliest of the codes each time."""
    ones = torch.ones_like(prompt)[None]  # or it takes tokens that are the padding's for padding
    forbidden = list(range(CODES, reference.config.vocab_size))
    options = {"do_sample": False, "pad_token_id": 0, "suppress_tokens": forbidden, "max_new_tokens": count}
    tokens: Tensor = reference.generate(prompt[None], attention_mask=ones, **options)
    return tokens[0, len(prompt) :]


def made(model: VisualSentenceModel, prompts: list[Tensor], count: int, sampling: Sampling) -> Any:
    """Frames by sentence and candidate, in their order."""
    rows: dict[tuple[int, int], list[Any]] = {}
    for frames in model.continue_(prompts, count, sampling):
        assert [(frame.sentence, frame.candidate) for frame in frames] == sorted((frame.sentence, frame.candidate) for frame in frames)
        for frame in frames:
            rows.setdefault((frame.sentence, frame.candidate), []).append(frame)
    return rows


def tokens_of(frames: list[Any]) -> Tensor:
    return torch.stack([frame.tokens for frame in frames])


@pytest.mark.parametrize(("seed", "frames", "count"), [(0, 1, 1), (1, 1, 5), (2, 3, 3), (3, 5, 1), (4, 2, 2)])
def test_greedy_is_what_transformers_generates_token_for_token(
    model: VisualSentenceModel, reference: Any, seed: int, frames: int, count: int
) -> None:
    prompt = sentence(seed, frames)
    rows = made(model, [prompt], count, Sampling(greedy=True))
    want = generated(reference, prompt.flatten(), count * TOKENS)
    assert torch.equal(tokens_of(rows[0, 0]).flatten(), want)
    assert [frame.context for frame in rows[0, 0]] == [tuple(range(frames + number)) for number in range(count)]


@pytest.mark.parametrize(
    ("seed", "candidates", "frames", "count"), [(0, 1, 4, 6), (1, 2, 4, 6), (2, 1, 1, 8), (3, 1, 5, 3), (4, 1, 6, 2), (5, 3, 9, 4)]
)
def test_past_the_context_it_is_what_transformers_makes_of_the_frames_that_are_named(
    model: VisualSentenceModel, reference: Any, seed: int, candidates: int, frames: int, count: int
) -> None:
    prompt = sentence(seed, frames)
    rows = made(model, [prompt], count, Sampling(greedy=True, candidates=candidates))
    assert len(rows) == candidates and max(len(frame.context) for frame in rows[0, 0]) < frames + count
    for one in rows.values():
        known = list(prompt)
        for frame in one:
            seen = torch.stack([known[place] for place in frame.context])
            assert torch.equal(frame.tokens, generated(reference, seen.flatten(), TOKENS))
            known.append(frame.tokens)


def test_several_frames_are_dropped_at_once_and_never_more_than_the_context_is_seen(model: VisualSentenceModel) -> None:
    rows = made(model, [sentence(0, 4)], 9, Sampling(greedy=True))
    spans = [(frame.context[0], frame.context[-1]) for frame in rows[0, 0]]
    # Six frames fit. Once they are there, four of them are kept and room is made for two.
    assert spans == [(0, 3), (0, 4), (2, 5), (2, 6), (4, 7), (4, 8), (6, 9), (6, 10), (8, 11)]
    assert all(frame.context == tuple(range(frame.context[0], frame.context[-1] + 1)) for frame in rows[0, 0])


def test_of_a_prompt_that_is_longer_than_the_context_the_last_frames_count(model: VisualSentenceModel) -> None:
    long = sentence(3, 9)
    rows = made(model, [long], 2, Sampling(greedy=True))
    short = made(model, [long[-5:]], 2, Sampling(greedy=True))
    assert [frame.context for frame in rows[0, 0]] == [(4, 5, 6, 7, 8), (6, 7, 8, 9)]
    assert torch.equal(tokens_of(rows[0, 0]), tokens_of(short[0, 0]))


@pytest.fixture
def read(model: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what is read: (rows, tokens) of prompts, (rows,) of steps."""
    shapes: list[tuple[int, ...]] = []
    prefill, step = model.decoder.prefill, model.decoder.step

    def note_prefill(tokens: Tensor, cache: KeysValues) -> Tensor:
        shapes.append(tuple(tokens.shape))
        return prefill(tokens, cache)

    def note_step(tokens: Tensor, *rest: Any) -> Tensor:
        shapes.append(tuple(tokens.shape))
        return step(tokens, *rest)

    monkeypatch.setattr(model.decoder, "prefill", note_prefill)
    monkeypatch.setattr(model.decoder, "step", note_step)
    return shapes


def test_a_prompt_is_read_once_in_one_pass_whatever_the_candidates(model: VisualSentenceModel, read: list[tuple[int, ...]]) -> None:
    list(model.continue_([sentence(0, 2), sentence(1, 2)], 2, Sampling(candidates=3)))
    assert read == [(2, 2 * TOKENS)] + [(6,)] * (2 * TOKENS - 1)


def test_past_the_context_the_frames_that_are_kept_are_read_once_for_every_second_frame(
    model: VisualSentenceModel, read: list[tuple[int, ...]]
) -> None:
    """Nine frames after four, with room for six: read anew where two were dropped, and not at every frame."""
    list(model.continue_([sentence(0, 4)], 9, Sampling(greedy=True)))
    assert [shape for shape in read if len(shape) == 2] == [(1, 4 * TOKENS)] * 5
    assert read.count((1,)) == 9 * TOKENS - 5, "what is made is otherwise read token by token, the last one of all not at all"


@pytest.mark.parametrize("sampling", [Sampling(greedy=True), Sampling(0.8, top_k=9, top_p=0.9, seed=1, candidates=2)])
def test_nothing_leaves_the_device_while_a_frame_is_made(
    model: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    """A copy to the host for each token would make a GPU wait."""
    making = Continuation(model.decoder, sentence(0, 2)[None], 2, sampling)

    def copied(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a tensor was read on the host")

    with torch.inference_mode(), monkeypatch.context() as patched:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"):
            patched.setattr(Tensor, name, copied)
        made = [making.next(number) for number in range(2)]
    making.close()
    assert [tuple(frame.tokens.shape) for frame in made] == [(sampling.candidates, TOKENS)] * 2


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.6}, {"temperature": 1.4, "top_k": 9, "top_p": 0.8}]
)
def test_candidates_and_sentences_in_one_batch_are_those_that_are_made_one_by_one(
    model: VisualSentenceModel, options: dict[str, Any]
) -> None:
    prompts = [sentence(0, 2), sentence(1, 4), sentence(2, 2)]
    together = made(model, prompts, 3, Sampling(seed=5, candidates=3, **options))
    for place, prompt in enumerate(prompts):
        for candidate in range(3):
            alone = made(model, [prompt], 3, Sampling(seed=5, first_candidate=candidate, **options))
            [(key, frames)] = alone.items()
            assert key == (0, candidate)
            assert torch.equal(tokens_of(together[place, candidate]), tokens_of(frames))
            assert [frame.context for frame in together[place, candidate]] == [frame.context for frame in frames]
            assert [frame.nll for frame in together[place, candidate]] == pytest.approx([frame.nll for frame in frames], abs=1e-4)


def test_seeds_and_candidates_differ_and_the_same_seed_repeats(model: VisualSentenceModel) -> None:
    prompt = [sentence(0, 2)]
    first = made(model, prompt, 2, Sampling(seed=1, candidates=3))
    again = made(model, prompt, 2, Sampling(seed=1, candidates=3))
    other = made(model, prompt, 2, Sampling(seed=2, candidates=3))
    assert all(torch.equal(tokens_of(first[key]), tokens_of(again[key])) for key in first)
    assert len({tuple(tokens_of(frames).flatten().tolist()) for rows in (first, other) for frames in rows.values()}) == 6


def warped(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """The distribution of transformers' processors, in the order in which its generate applies them."""
    from transformers.generation import logits_process

    ids = torch.zeros(len(logits), 1, dtype=torch.int64)
    scores: Tensor = logits_process.TemperatureLogitsWarper(temperature)(ids, logits)
    if top_k is not None:
        scores = logits_process.TopKLogitsWarper(top_k)(ids, scores)
    if top_p is not None:
        scores = logits_process.TopPLogitsWarper(top_p)(ids, scores)
    return scores.softmax(-1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 7, 500])
@pytest.mark.parametrize("top_p", [None, 0.05, 0.5, 0.95])
def test_the_distribution_is_that_of_transformers_processors(temperature: float, top_k: int | None, top_p: float | None) -> None:
    logits = 3 * torch.randn(5, 200, generator=torch.Generator().manual_seed(1))
    got = probabilities(logits, Sampling(temperature, top_k, top_p))
    want = warped(logits, temperature, top_k, top_p)
    assert torch.equal(got > 0, want > 0)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.5, top_k=6), Sampling(1.5, top_p=0.7)])
def test_evenly_spaced_draws_take_each_code_as_often_as_it_is_likely(sampling: Sampling) -> None:
    logits = 2 * torch.randn(1, 30, generator=torch.Generator().manual_seed(4))
    number = 20_000
    even = (torch.arange(number) + 0.5) / number
    taken = choose(logits.expand(number, -1), even, sampling).bincount(minlength=30) / number
    want = warped(logits, sampling.temperature, sampling.top_k, sampling.top_p)[0]
    assert (taken - want).abs().max() < 2 / number
    assert not taken[want == 0].any()


def test_the_ends_of_the_draws_fall_on_codes_that_can_be_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 2.0, -torch.inf]]).expand(2, -1)
    assert choose(logits, torch.tensor([0.0, 1.0 - 2**-24]), Sampling()).tolist() == [1, 2]


def test_draws_are_uniform_and_belong_to_seed_candidate_and_frame() -> None:
    three = draws(Sampling(seed=3, candidates=3), 2, 4000)
    assert three.shape == (4000, 3)
    assert torch.equal(three[:, 1:2], draws(Sampling(seed=3, first_candidate=1), 2, 4000))
    assert not torch.equal(three, draws(Sampling(seed=3, candidates=3), 3, 4000))
    assert not torch.equal(three, draws(Sampling(seed=4, candidates=3), 2, 4000))
    sorted_ = three.sort(dim=0).values
    even = (torch.arange(4000) + 0.5)[:, None] / 4000
    assert (sorted_ - even).abs().max() < 1.95 / 4000**0.5  # Kolmogorov and Smirnov, at 0.1 %
    assert torch.corrcoef(three.T).triu(1).abs().max() < 0.06


def test_the_score_is_the_cross_entropy_of_a_plain_forward(model: VisualSentenceModel, reference: Any) -> None:
    words = sentence(8, FRAMES)
    got = model.score(words)
    with torch.no_grad():
        logits = reference(words.flatten()[None]).logits[0, :-1, :CODES]
    want = nn.functional.cross_entropy(logits, words.flatten()[1:], reduction="none")
    assert got.shape == (FRAMES, TOKENS)
    assert got[0, 0].isnan()
    torch.testing.assert_close(got.flatten()[1:], want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampling", [Sampling(greedy=True), Sampling(0.5, top_k=3, seed=1, candidates=2)])
def test_the_likelihood_of_a_frame_is_its_score_under_the_unmodified_distribution(model: VisualSentenceModel, sampling: Sampling) -> None:
    prompt = sentence(9, 2)
    for frames in made(model, [prompt], 3, sampling).values():
        scores = model.score(torch.cat([prompt, tokens_of(frames)]))
        assert [frame.nll for frame in frames] == pytest.approx(scores[2:].mean(1).tolist(), abs=1e-5)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_compiled_decoder_says_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, quantize: str | None) -> None:
    graphs: list[dict[str, Any]] = []
    real = torch.compile

    def eagerly(function: Any, **options: Any) -> Any:
        graphs.append(options)
        return real(function, backend="eager", **{key: value for key, value in options.items() if key != "mode"})

    monkeypatch.setattr(torch, "compile", eagerly)  # the real backend needs a C++ compiler and half a minute
    plain = load(str(folder), CPU, quantize=quantize)
    compiled = load(str(folder), Runtime(device="cpu", dtype="fp32", compile=True), quantize=quantize)
    assert graphs == [{"mode": None, "fullgraph": True, "dynamic": False}]
    assert (compile_mode(torch.device("cpu")), compile_mode(torch.device("cuda", 1))) == (None, "reduce-overhead"), "CUDA graphs"
    for sampling in (Sampling(greedy=True), Sampling(seed=2, candidates=2)):
        want, got = (made(one, [sentence(0, 3)], 5, sampling) for one in (plain, compiled))
        assert all(torch.equal(tokens_of(want[key]), tokens_of(got[key])) for key in want)
        assert [frame.context for frame in want[0, 0]] == [frame.context for frame in got[0, 0]]


def test_a_sentence_of_nan_does_not_spoil_the_next_one_of_a_compiled_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    compiled = load(str(folder), Runtime(device="cpu", dtype="fp32", compile=True))
    wanted = tokens_of(made(compiled, [sentence(0, 2)], 1, Sampling(greedy=True))[0, 0])
    kept = compiled.decoder._fixed
    assert kept is not None
    with torch.inference_mode():
        for tensor in (*kept.keys, *kept.values):
            tensor[..., -1, :] = torch.nan  # of a place that this sentence does not come to
    assert torch.equal(tokens_of(made(compiled, [sentence(0, 2)], 1, Sampling(greedy=True))[0, 0]), wanted)
    assert compiled.decoder._fixed is kept, "in the same memory"


def test_a_compiler_that_fails_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> NoReturn:
        raise torch._dynamo.exc.Unsupported("no g++")

    monkeypatch.setattr(torch, "compile", lambda function, **_: fails)
    compiled = load(str(folder), Runtime(device="cpu", dtype="fp32", compile=True))
    with pytest.raises(DeviceError, match=r"torch.compile failed.*leave out --compile"):
        list(compiled.continue_([sentence(0, 2)], 1, Sampling(greedy=True)))


def test_a_cache_is_allocated_once_and_its_parts_are_views() -> None:
    shape = Shape(2, 3, 4, torch.float32, torch.device("cpu"))
    cache = KeysValues.empty(shape, 2, 10)
    place = cache.keys[1].data_ptr()
    first, second = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 1, 4)
    cache.update(first, -first, 1)
    cache.length = 6
    keys, values = cache.update(second, -second, 1)
    assert torch.equal(keys, torch.cat([first, second], 2))
    assert torch.equal(values, -keys)
    assert keys.data_ptr() == place == cache.keys[1].data_ptr()
    assert shape.bytes(2, 10) == sum(tensor.numel() * 4 for tensor in (*cache.keys, *cache.values))


def test_int8_weights_stay_close_to_the_whole_ones(folder: Path, model: VisualSentenceModel) -> None:
    small = load(str(folder), CPU, quantize="int8")
    words = sentence(1, 4)
    difference = (small.score(words) - model.score(words)).nan_to_num().abs()
    assert 0 < difference.mean() < 0.1
    rows = made(small, [words[:2]], 2, Sampling(seed=1, candidates=2))
    alone = made(small, [words[:2]], 2, Sampling(seed=1, first_candidate=1))
    assert torch.equal(tokens_of(rows[0, 1]), tokens_of(alone[0, 1])), "the prompt that candidates share is read as that of one"
    assert not torch.equal(tokens_of(rows[0, 0]), tokens_of(rows[0, 1])) and tokens_of(rows[0, 1]).max() < CODES
    assert type(small.decoder.network.model.layers[0].mlp.up_proj.weight.data).__name__ != "Tensor"


def test_bf16_is_close_to_fp32_and_pictures_stay_in_fp32(folder: Path, model: VisualSentenceModel) -> None:
    half = load(str(folder), Runtime(device="cpu", dtype="bf16"))
    assert half.decoder.shape.dtype == torch.bfloat16
    words = sentence(1, 4)
    assert (half.score(words) - model.score(words)).nan_to_num().abs().mean() < 0.05
    assert [image.tobytes() for image in half.decode(words)] == [image.tobytes() for image in model.decode(words)]
    list(half.continue_([words], 2, Sampling(candidates=2)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 70])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "packed"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False)])
def test_layers_that_are_joined_give_their_products_one_behind_the_other(
    count: int, bias: bool, dtype: torch.dtype, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packed:
        monkeypatch.setattr(lvm_blocks, "_can_pack", lambda weight: False)
    layers = [nn.Linear(48, 336, bias=bias, dtype=dtype), nn.Linear(48, 20, bias=bias, dtype=dtype)]
    vectors = torch.randn(1, count, 48, generator=torch.Generator().manual_seed(count)).to(dtype)
    with torch.no_grad():
        want = torch.cat([deepcopy(layer).double()(vectors.double()) for layer in layers], dim=-1)
        got = lvm_blocks.Matrix(layers)(vectors)
    exact = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    assert got.dtype == dtype and got.shape == (1, count, 356)
    torch.testing.assert_close(got.double(), want, atol=exact, rtol=exact)


def test_no_matrix_is_kept_twice(folder: Path) -> None:
    """What was taken over has its shape yet, and no memory."""
    network = load(str(folder), CPU).decoder.network
    there = {name for name, parameter in network.named_parameters() if parameter.device.type != "meta"}
    assert there == {name for name, parameter in network.named_parameters() if parameter.ndim == 1 or "embed_tokens" in name}
    assert network.model.layers[0].self_attn.q_proj.weight.shape == (32, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "unlike",
    [
        {},
        {"num_key_value_heads": 2},
        {"attention_bias": True, "mlp_bias": True},
        {"head_dim": 16},
        {"hidden_act": "gelu"},
        {"tie_word_embeddings": True},
    ],
    ids=["the public one", "grouped queries", "biases", "wide heads", "another activation", "a head that is the embedding"],
)
def test_a_step_is_that_of_transformers_blocks(dtype: torch.dtype, unlike: dict[str, Any]) -> None:
    reference, network = (random_llama(dtype, unlike) for _ in range(2))
    decoder = Decoder(network, 24)
    words = torch.randint(0, 24, (1, 9), generator=torch.Generator().manual_seed(3))
    cache = decoder.cache(1, 9)
    with torch.inference_mode():
        seen = reference(words[:, :6], use_cache=True)
        got = [decoder.prefill(words[:, :6], cache)]
        want = [seen.logits[:, -1]]
        for word in words[0, 6:]:
            got.append(decoder.step(word[None], cache))
            want.append(reference(word[None, None], past_key_values=seen.past_key_values, use_cache=True).logits[:, -1])
    exact = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=exact, rtol=exact)
    theirs = Decoder(random_llama(dtype, unlike), 24, quantized=True)  # which runs transformers' own blocks
    torch.testing.assert_close(decoder.score(words[0]), theirs.score(words[0]), atol=exact, rtol=exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "rows", "sentences"), [(8, 4, 1), (2, 6, 2)], ids=["candidates", "grouped queries of two sentences"])
@pytest.mark.parametrize("in_steps", [False, True], ids=["in one pass", "in steps"])
def test_a_shared_prefix_is_seen_as_if_every_row_had_its_own(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, heads: int, rows: int, sentences: int, in_steps: bool
) -> None:
    if in_steps:
        monkeypatch.setattr(lvm_cache, "_attended", lvm_cache._attended_in_steps)
    torch.manual_seed(2)
    prefix_keys, prefix_values = torch.randn(2, sentences, heads, 70, 16).to(dtype)
    keys, values = torch.randn(2, rows, heads, 9, 16).to(dtype)
    queries = torch.randn(16, 8, 1, rows).to(dtype).permute(3, 1, 2, 0)  # as the product of few rows lies in memory
    prefix = KeysValues([prefix_keys], [prefix_values])
    prefix.length = 60  # of the 70 that there is room for
    whole_keys, whole_values = (
        torch.cat([shared[:, :, :60].repeat_interleave(rows // sentences, 0), own], 2).repeat_interleave(8 // heads, 1).double()
        for shared, own in ((prefix_keys, keys), (prefix_values, values))
    )
    want = torch.nn.functional.scaled_dot_product_attention(queries.double(), whole_keys, whole_values)
    got = lvm_cache.attention(queries, keys, values, 0, 0.25, prefix)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, atol=1e-6 if dtype == torch.float32 else 2e-2, rtol=1e-2)


def random_llama(dtype: torch.dtype, unlike: dict[str, Any]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 24, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(5)
    network = LlamaForCausalLM(LlamaConfig(**sizes | unlike)).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if "norm" in name or "bias" in name:  # or they are all ones or zeros
            parameter.normal_()
    return network.to(dtype)
