"""The things that are learned one after the other: the VQGAN, its decoder once more, and the LLaMA on its codes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontk.adapters.lvm_files import find, vqgan_folder
from visiontk.adapters.lvm_public import read_vqgan
from visiontk.adapters.lvm_weights import build_vqgan, check, frame_tokens, read_llama
from visiontk.errors import UsageError
from visiontk.runtime import Started

from .chance import derive, seed_everything
from .learner import Learner, autocast
from .lvm_codes import Codebook, nearest
from .lvm_llama import is_hidden, new_llama, start
from .lvm_plan import SIZE, LvmPlan
from .lvm_vqgan import FACTOR, lr_scale, new_vqgan, see
from .lvm_world import BACKGROUNDS, FRAMES, WITH_PHOTOS, foretold, sentences

SIDE = SIZE // FACTOR  # of a frame in tokens
# Weights of the VQGAN's losses: of the mean over pictures of the logarithm of the squared error, which is what decibels average, and of the
# squared distance between latents and their codes (van den Oord et al. 2017, arXiv 1711.00937, equation 3).
ERROR, COMMITMENT = 0.03, 0.25
# Weight in the LLaMA's loss of a frame of which those before say nothing. What is drawn there is chance, and in an hour its gradients are
# mostly noise to what can be foretold; a model that scores sentences has to know it a little.
UNFORETOLD = 0.2
FIRST = 32  # latents to a code that the codebook begins with
EXACT = 1e-5  # mean squared error of a picture, 50 dB, below which its decoder has little more to learn of it


@dataclass
class Parts:
    """A large vision model: diffusers' ``VQModel`` and transformers' ``LlamaForCausalLM``."""

    vqgan: Any
    llama: Any


def new_parts(codes: int, vqgan_of: str = "", model: str = "", *, seed: int) -> Parts:
    """With random weights, or with the VQGAN of another model, or with both networks of a model.

    Each network has a seed of its own, so a LLaMA on a VQGAN of an earlier run begins like one on that VQGAN in the same run.

    Raises:
        ModelUnavailable: there is none that can be read.
        UsageError: it has other sizes.
    """
    if model:
        _, found = find(model)
        vqgan = taken_vqgan(found.vqgan, model, codes)
        llama = read_llama(found.llama, torch.float32, model, found.shards).requires_grad_(True)
        check(vqgan, llama, model)
        context = llama.config.max_position_embeddings // SIDE**2
        if context < FRAMES:
            raise UsageError(f"{model} has room for {context} frames, and the sentences here have {FRAMES}; name another")
        return Parts(vqgan, llama)
    seed_everything(derive(seed, "weights"))
    vqgan = taken_vqgan(vqgan_folder(vqgan_of), vqgan_of, codes) if vqgan_of else new_vqgan(SIZE, codes)
    seed_everything(derive(seed, "llama weights"))
    return Parts(vqgan, new_llama(SIDE, vqgan.quantize.embedding.weight.detach()))


def taken_vqgan(folder: Path, name: str, codes: int) -> Any:
    """The VQGAN in its folder, of a model of that name, for frames of `SIZE`. Raises ModelUnavailable, UsageError."""
    vqgan = build_vqgan(*read_vqgan(folder, name), name)
    found = int(vqgan.config.num_vq_embeddings)
    if (found, vqgan.config.sample_size, frame_tokens(vqgan)) != (codes, SIZE, SIDE**2):
        size = f"{found} codes, {vqgan.config.sample_size} pixels and {frame_tokens(vqgan)} tokens a frame"
        raise UsageError(f"the VQGAN of {name} has {size}, and not {codes}, {SIZE} and {SIDE**2}; name another, or its --codes")
    return vqgan.requires_grad_(True)


class Training:
    """The VQGAN for the first steps, its decoder for the next, then the LLaMA on its codes. A `visiontk.training.steps.Trained`."""

    def __init__(self, plan: LvmPlan, started: Started, parts: Parts) -> None:
        self.plan, self.device, self.parts, self._started = plan, started.device, parts, started
        self.begun = False  # the codebook has its first codes
        # 3 x 3 convolutions on a CPU want the channels last.
        vqgan = parts.vqgan.to(self.device, memory_format=torch.channels_last)
        # One that is taken as it is needs no optimiser and no average.
        self.vqgan = (
            Learner(vqgan, plan, self.device, lr=plan.vqgan_lr, steps=plan.vqgan_steps, lr_scale=lr_scale) if plan.vqgan_steps else None
        )
        self.codebook = Codebook(vqgan)
        self.decoder = self._decoder() if plan.decoder_steps else None
        self.llama = Learner(parts.llama, plan, self.device, lr=plan.lr, steps=plan.steps, by_muon=is_hidden)
        self._ready = False  # the VQGAN is done, and the LLaMA knows its codes

    def rate(self, step: int) -> float:
        learner, own = self._turn(step)
        return learner.rate(own)

    def advance(self, step: int) -> Mapping[str, float]:
        """One update. Lines of the VQGAN and its decoder hold ``psnr``, the mean over pictures in dB; of the former, how many ``codes``
        the pictures of a step take."""
        seed_everything(derive(self.plan.seed, "pass", step))
        learner, own = self._turn(step)
        if learner is self.vqgan:
            return self._reconstruct(learner, own)
        if learner is self.decoder:
            return self._refine(learner, own)
        self.prepare(fresh=own == 0 and not self.plan.model)
        loss = self._predict(own)
        learner.update(loss, own)
        return {"loss": float(loss.detach())}

    def finished(self) -> Parts:
        """The averaged weights in fp32 on the CPU, ready to be written."""
        self.prepare(fresh=self.plan.steps == 0 and not self.plan.model)
        llama = self.llama.average.module
        for part in (self.parts.vqgan, llama):
            part.eval().cpu()
        return Parts(self.parts.vqgan.to(memory_format=torch.contiguous_format), llama)

    def state(self) -> dict[str, Any]:
        vqgan = self.vqgan.state() if self.vqgan else {"network": self.parts.vqgan.state_dict()}
        decoder = self.decoder.state() if self.decoder else None
        return {"vqgan": vqgan, "codebook": self.codebook.state(), "begun": self.begun, "decoder": decoder, "llama": self.llama.state()}

    def restore(self, state: dict[str, Any]) -> None:
        if self.vqgan:
            self.vqgan.restore(state["vqgan"])
        else:
            self.parts.vqgan.load_state_dict(state["vqgan"]["network"])
        self.codebook.restore(state["codebook"])
        if self.decoder:
            self.decoder.restore(state["decoder"])
        self.begun = state["begun"]
        self.llama.restore(state["llama"])

    def prepare(self, *, fresh: bool) -> None:
        """Put the VQGAN's averaged weights in force; a ``fresh`` LLaMA is told what its codes look like."""
        if self._ready:
            return
        vqgan = self.parts.vqgan
        if self.vqgan:
            vqgan.load_state_dict(self.vqgan.average.module.state_dict())
        if self.decoder:
            self.decoder.network.load_state_dict(self.decoder.average.module.state_dict())
        vqgan.requires_grad_(False).eval()
        if fresh:
            seed_everything(derive(self.plan.seed, "codes"))
            start(self.llama.network, SIDE, vqgan.quantize.embedding.weight)
            self.llama.average.module.load_state_dict(self.llama.network.state_dict())
        self._ready = True

    def _turn(self, step: int) -> tuple[Learner, int]:
        """Whose step it is, and which of its own."""
        if self.vqgan and step < self.plan.vqgan_steps:
            return self.vqgan, step
        if self.decoder and step < self.plan.picture_steps:
            return self.decoder, step - self.plan.vqgan_steps
        return self.llama, step - self.plan.picture_steps

    def _reconstruct(self, learner: Learner, step: int) -> Mapping[str, float]:
        """Straight-through quantisation; the codes follow the latents by themselves."""
        plan, network = self.plan, cast(Any, learner.network)
        if not self.begun:
            self._begin(learner)
        truth = pictures(derive(plan.seed, "vqgan"), _indices(step, plan.vqgan_batch // 2)).to(self.device)
        with self._mixed():
            latents = network.encode(truth).latents.float()
        taken, chosen = self._chosen(latents)
        with self._mixed():
            made = network.decoder(network.post_quant_conv(latents + (chosen - latents).detach()))
        error = _squares(made.float() - truth)
        loss = ERROR * _exponents(error) + COMMITMENT * (latents - chosen).square().mean()
        learner.update(loss, step)
        if torch.isfinite(loss):
            self.codebook.update(rows(latents.detach()), taken)
        return {"loss": float(loss.detach()), "psnr": _psnr(error), "codes": float(taken.bincount().count_nonzero())}

    def _mixed(self) -> AbstractContextManager[Any]:
        """Mixed precision for the VQGAN in bf16 alone: its gradients are too small for fp16."""
        return autocast(self._started) if self._started.dtype is torch.bfloat16 else nullcontext()

    def _chosen(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The codes (B * h * w) that are nearest to latents (B, d, h, w), and what these stand for, like the latents."""
        taken = nearest(rows(latents.detach()), self.codebook.weight)
        return taken, self.codebook.weight[taken].view(len(latents), *latents.shape[2:], -1).permute(0, 3, 1, 2)

    def _decoder(self) -> Learner:
        """What comes after the codes."""
        vqgan = self.parts.vqgan
        after = nn.ModuleDict({"post_quant_conv": vqgan.post_quant_conv, "decoder": vqgan.decoder})
        return Learner(after, self.plan, self.device, lr=self.plan.vqgan_lr, steps=self.plan.decoder_steps, lr_scale=lr_scale)

    def _refine(self, learner: Learner, step: int) -> Mapping[str, float]:
        """One update of the decoder for the mean over pictures of their peak signal-to-noise ratio. Always in fp32, as it is used."""
        plan, vqgan = self.plan, self.parts.vqgan
        if self.vqgan and step == 0:
            vqgan.load_state_dict(self.vqgan.average.module.state_dict())
            learner.average.module.load_state_dict(learner.network.state_dict())
        truth = pictures(derive(plan.seed, "decoder"), _indices(step, plan.vqgan_batch // 2)).to(self.device)
        with torch.no_grad():
            _, chosen = self._chosen(vqgan.encode(truth).latents)
        error = _squares(vqgan.decoder(vqgan.post_quant_conv(chosen)) - truth)
        loss = _exponents(error)
        learner.update(loss, step)
        return {"loss": float(loss.detach()), "psnr": _psnr(error)}

    def _begin(self, learner: Learner) -> None:
        """Principal components of pictures as latents, and k-means of these as codes."""
        seed, count, network = derive(self.plan.seed, "first codes"), self.plan.codes * FIRST // SIDE**2, cast(Any, learner.network)
        drawn = [pictures(seed, range(at, min(at + 16, count // 2))) for at in range(0, count // 2, 16)]
        with torch.no_grad():
            see(network.encoder, torch.cat(drawn).to(self.device))
            self.codebook.begin(
                torch.cat([rows(network.encode(some.to(self.device)).latents) for some in drawn]), self.plan.vqgan_batch * SIDE**2
            )
        learner.average.module.load_state_dict(network.state_dict())
        self.begun = True

    def _predict(self, step: int) -> Tensor:
        """Negative log-likelihood of the tokens after the first, given all before them: the mean, weighted by frame."""
        plan = self.plan
        backgrounds = WITH_PHOTOS if plan.model else BACKGROUNDS
        drawn = sentences(derive(plan.seed, "lvm"), _indices(step, plan.batch), SIZE, backgrounds=backgrounds)
        tokens = encode(self.parts.vqgan, drawn.frames.to(self.device))
        with autocast(self._started):
            logits = self.llama.network(input_ids=tokens, use_cache=False).logits
        each = functional.cross_entropy(logits[:, :-1].transpose(1, 2).float(), tokens[:, 1:], reduction="none")
        weights = torch.where(foretold(drawn), 1.0, UNFORETOLD).repeat_interleave(SIDE**2, dim=1)[:, 1:].to(each.device)
        loss: Tensor = (each * weights).sum() / weights.sum()
        return loss


@torch.no_grad()
def encode(vqgan: Any, frames: Tensor) -> Tensor:
    """int64 (B, T * tokens): the codes of uint8 (B, T, 3, S, S)."""
    latents = vqgan.encode(pixels(frames.flatten(0, 1))).latents
    return nearest(rows(latents), vqgan.quantize.embedding.weight).view(len(frames), -1)


def pictures(seed: int, indices: range) -> Tensor:
    """float32 (2 * indices, 3, S, S) from 0 to 1, channels last: the first two frames of sentences, of pairs a picture and its answer."""
    frames = sentences(seed, indices, SIZE, 2).frames.flatten(0, 1)
    return pixels(frames)


def pixels(images: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) to float32 from 0 to 1, as the VQGAN takes them."""
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


def rows(latents: Tensor) -> Tensor:
    """(B, d, h, w) to (B * h * w, d)."""
    return latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])


def _squares(error: Tensor) -> Tensor:
    """(B, 3, S, S) to their mean squares (B)."""
    return error.square().mean((1, 2, 3))


def _exponents(error: Tensor) -> Tensor:
    """The mean over pictures of the logarithms of mean squared errors (B)."""
    return (error + EXACT).log().mean()


def _psnr(error: Tensor) -> float:
    """The mean over pictures, in dB, of mean squared errors (B) of values from 0 to 1."""
    return float(-10 * error.detach().log10().mean())


def _indices(step: int, batch: int) -> range:
    return range(step * 1000, step * 1000 + batch)
