"""Large vision models: pictures become tokens, a LLaMA continues the sentence of pictures, and its tokens become pictures again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from visiontk import catalog
from visiontk.errors import ItemError, UsageError
from visiontk.runtime import Runtime, Started, memory_errors

from . import lvm_files, lvm_weights
from .lvm_convert import convert
from .lvm_decoding import Decoder
from .lvm_pictures import Pictures
from .lvm_sentences import Continuation, Made
from .lvm_types import Frame, Sampling

__all__ = ["Frame", "Sampling", "VisualSentenceModel", "convert", "load"]

# Up to this size of the LLaMA's weights a CPU is faster in fp32: bf16 costs more per layer than it saves in so few numbers.
SMALL = 200e6
_SMALLER = "choose a smaller model, or --device cpu where a GPU is too small"
DEFAULT = Sampling()


class VisualSentenceModel:
    """An LVM. `visiontk.load("lvm", ...)` makes one.

    Attributes:
        name: catalog name, hub id, local path, or ``random-SIZE``.
        vqgan: likewise of what the VQGAN was taken from, where that was named apart; else None.
        revision: the hub's commit, of two repositories both with a + between; of local files the sha256 of their sums, those of the
            LLaMA and then that of the VQGAN, one to a line: what ``sha256sum FILES... | cut -d' ' -f1 | sha256sum`` prints.
        warning: what the user should know about the choice of model, or None.
        runtime: device and dtype in force; the VQGAN is in float32 whatever the dtype.
        image_size: side in pixels of what it sees and makes.
        frame_tokens: tokens of one frame.
        codes: how many different tokens there are.
        context_frames: so many frames fit into the context, the one that is being made among them.
        row_bytes: of memory that one candidate of one sentence takes at most while it is continued, beside the weights.
    """

    def __init__(
        self,
        vqgan: Any,
        llama: Any,
        runtime: Started,
        *,
        name: str,
        revision: str,
        warning: str | None = None,
        quantize: str | None = None,
        vqgan_of: str | None = None,
    ) -> None:
        self.name, self.revision, self.warning, self.runtime, self.quantize = name, revision, warning, runtime, quantize
        self.vqgan = vqgan_of
        self._pictures = Pictures(vqgan, runtime.device)
        self.image_size, self.frame_tokens, self.codes = self._pictures.size, self._pictures.tokens, self._pictures.codes
        lvm_weights.keep_codes(llama, self.codes)
        if quantize == "int8":
            lvm_weights.to_int8(llama)
        self.decoder = Decoder(llama.to(runtime.device), self.codes, compile=runtime.compile, quantized=quantize is not None)
        self.context_frames = self.decoder.context // self.frame_tokens
        self.row_bytes = self.decoder.shape.bytes(1, self.context_frames * self.frame_tokens)

    def fit(self, image: Image) -> Image:
        """What it sees of a picture of any size: RGB, image_size squared, without its aspect."""
        return self._pictures.fit(image)

    def encode(self, images: Sequence[Image]) -> Tensor:
        """The tokens of pictures, int64 (N, frame_tokens), on the CPU. Pictures of any size; they lose their aspect. Raises OutOfMemory."""
        with memory_errors():
            return self._pictures.encode(images)

    def decode(self, tokens: Tensor) -> list[Image]:
        """The pictures, RGB, of int64 (N, frame_tokens). Raises UsageError for what are no tokens of it, OutOfMemory."""
        self._check(tokens)
        with memory_errors():
            return self._pictures.decode(tokens)

    def continue_(
        self,
        sentences: Sequence[Tensor],
        count: int,
        sampling: Sampling = DEFAULT,
        on_frame: Callable[[int], None] | None = None,
    ) -> Iterator[list[Frame]]:
        """Continue sentences, each with all its candidates in one batch.

        A frame is conditioned on at most ``context_frames - 1`` frames before it. When the context is full, a quarter of it is dropped at
        once; ``Frame.context`` says what each frame was conditioned on.

        Args:
            sentences: each int64 (frames, frame_tokens), as `encode` gives them, of one frame or more.
            count: frames to make of each.
            on_frame: called after each frame of all sentences with the number of those done.

        Raises:
            UsageError: a sentence is empty or holds what are no tokens of the model, or an option makes no sense.
            OutOfMemory: so many candidates do not fit the device; `Sampling.first_candidate` lets a caller take fewer at once.

        Yields:
            the next frame of every sentence and candidate: all candidates of the first sentence, then those of the second, and so on.
        """
        sampling.check()
        if count < 1:
            raise UsageError(f"{count} frames are asked for; use at least one")
        for sentence in sentences:
            self._check(sentence)
            if len(sentence) == 0:
                raise UsageError("a sentence without frames cannot be continued; give at least one frame")
        return self._frames([sentence.detach().clone() for sentence in sentences], count, sampling, on_frame)

    def score(self, sentence: Tensor) -> Tensor:
        """Negative log-likelihood in nats of each token given all before it, float32 (frames, frame_tokens), on the CPU.

        The very first token is given nothing and has none: it is NaN, so take the mean with ``nanmean``.

        Args:
            sentence: int64 (frames, frame_tokens), at most ``context_frames`` frames.

        Raises:
            UsageError: there are no frames or too many, or they are no tokens of the model.
            ItemError: ``not_finite``, the model gave NaN or infinity.
            OutOfMemory: it does not fit the device.
        """
        self._check(sentence)
        if not 1 <= len(sentence) <= self.context_frames:
            raise UsageError(f"the sentence has {len(sentence)} frames; {self.name} scores 1 to {self.context_frames} at once")
        with memory_errors():
            costs = self.decoder.score(sentence.flatten().to(self.runtime.device)).float().cpu()
        if not costs.isfinite().all():
            raise self.not_finite()
        return torch.cat([torch.full((1,), torch.nan), costs]).reshape(sentence.shape)

    def not_finite(self) -> ItemError:
        """What there is to say where ``Frame.nll`` is NaN."""
        return ItemError("not_finite", f"{self.name} gave NaN or infinity in {self.runtime.dtype_name}; try --dtype fp32")

    def _frames(
        self, sentences: Sequence[Tensor], count: int, sampling: Sampling, on_frame: Callable[[int], None] | None
    ) -> Iterator[list[Frame]]:
        groups: dict[int, list[int]] = {}
        for place, sentence in enumerate(sentences):
            groups.setdefault(len(sentence), []).append(place)
        running: list[tuple[list[int], Continuation]] = []
        try:
            with memory_errors():
                for places in groups.values():
                    prompts = torch.stack([sentences[place] for place in places])
                    running.append((places, Continuation(self.decoder, prompts, count, sampling)))
            for number in range(count):
                frames: list[Frame] = []
                with memory_errors(), torch.inference_mode():
                    for places, continuation in running:
                        frames += self._pictured(continuation.next(number), places, number, sampling)
                if on_frame is not None:
                    on_frame(number + 1)
                yield sorted(frames, key=lambda frame: (frame.sentence, frame.candidate))
        finally:
            for _, continuation in running:
                continuation.close()

    def _pictured(self, made: Made, places: Sequence[int], number: int, sampling: Sampling) -> Iterator[Frame]:
        tokens, means = made.tokens.cpu(), made.nll.mean(1)
        costs = means.where(means.isfinite(), torch.nan).tolist()
        images = self._pictures.decode(tokens)
        for row, (image, cost) in enumerate(zip(images, costs, strict=True)):
            sentence, candidate = divmod(row, sampling.candidates)
            yield Frame(
                tokens[row].clone(), image, cost, tuple(made.context), places[sentence], sampling.first_candidate + candidate, number
            )

    def _check(self, tokens: Tensor) -> None:
        if tokens.ndim != 2 or tokens.shape[1] != self.frame_tokens or tokens.dtype != torch.int64:
            shape = f"{tokens.dtype} {tuple(tokens.shape)}".removeprefix("torch.")
            raise UsageError(f"the frames are {shape} and not int64 (frames, {self.frame_tokens}); use what encode gives")
        if tokens.numel() and not bool(((tokens >= 0) & (tokens < self.codes)).all()):
            raise UsageError(f"a token is none of the {self.codes} codes of {self.name}; use what its own encode gives")


def load(
    model: str | None = None,
    runtime: Runtime | None = None,
    *,
    vqgan: str | None = None,
    quantize: str | None = None,
    random_weights: str | None = None,
) -> VisualSentenceModel:
    """Find, read and build an LVM.

    Args:
        model: catalog name, hub id, or a folder with ``llama/`` and ``vqgan/``; None for the recommended one.
        vqgan: what brings the VQGAN instead: another model, or the folder or hub id of a VQGAN alone. Then ``model`` may be a LLaMA alone.
        runtime: device, dtype and the like; the default chooses by itself.
        quantize: ``int8``, or None.
        random_weights: a size of the paper, ``300m`` to ``7b``, instead of a model: random weights, for measuring speed and memory.

    Raises:
        ModelUnavailable, DeviceError, UsageError, OutOfMemory: see the messages.
    """
    asked = runtime or Runtime()
    lvm_weights.check_quantize(quantize)
    if random_weights is not None:
        for named, what in ((model, "model"), (vqgan, "VQGAN")):
            if named is not None:
                raise UsageError(f"random weights of {random_weights} and the {what} {named} exclude each other; leave one out")
        started = asked.start()
        with memory_errors(_SMALLER):
            vqgan, llama = lvm_weights.random(random_weights, started.dtype, asked.seed)
            return VisualSentenceModel(
                vqgan, llama, started, name=f"random-{random_weights}", revision=f"seed:{asked.seed}", quantize=quantize
            )
    location, found = lvm_files.find(model, vqgan) if model is not None else _default(vqgan)
    started = asked.start()
    if asked.dtype == "auto" and started.device.type == "cpu" and found.size < SMALL:
        started = replace(started, dtype=torch.float32)
    with ThreadPoolExecutor(1) as pool, memory_errors(_SMALLER):
        revision = pool.submit(lambda: found.revision)  # beside the reading
        pictures, llama = lvm_weights.read(found, started.dtype, location.name, vqgan)
        return VisualSentenceModel(
            pictures,
            llama,
            started,
            name=location.name,
            revision=revision.result(),
            warning=location.warning,
            quantize=quantize,
            vqgan_of=vqgan,
        )


def _default(vqgan: str | None) -> tuple[catalog.Location, lvm_files.Files]:
    if vqgan is not None:
        raise UsageError(f"{vqgan} replaces the VQGAN of a model, and none is named; name it with --model")
    location = catalog.locate_default("lvm")
    return location, lvm_files.files(location)
