"""The things that are learned one after the other: the autoencoder, what captions name, and the U-Net with its text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontk.runtime import Started

from .chance import derive, seed_everything
from .generate_naming import Naming, named
from .generate_network import Parts
from .generate_pictures import Kept, rendered
from .generate_plan import GeneratePlan
from .generate_world import pixels, scenes, told
from .learner import Learner, autocast
from .plain_attention import written_out

# The autoencoder sees pieces, as a whole picture is mostly background.
PIECES, PIECE = 2, 32  # of a picture, and their side in pixels
EDGES, SPREAD = 0.5, 1e-3  # weights of its losses beside the mean absolute error
NOISE = 0.02  # on its latents, so that their neighbours mean the same
# In terms of the picture, errors weigh as much as the signal-to-noise ratio, from 1 (Salimans & Ho 2022, section 4) to 5 (min-SNR, Hang et
# al. 2023, arXiv 2303.09556): steps with hardly any noise teach little, and steps of noise alone decide what is drawn.
SNR = 1.0, 5.0
CALIBRATION, CALIBRATED_AT_ONCE = 256, 16  # pictures whose latents say what is divided by
NAMING_BATCH, NAMING_LR, LEAST_SIZE = 128, 1e-3, 16  # captions are those of small pictures
TEXT_SHARE = 0.1  # of the U-Net's learning rate, once the text encoder knows its words


class Training:
    """The autoencoder for the first steps, the words for the next, then the rest. A `visiontk.training.steps.Trained`."""

    def __init__(self, plan: GeneratePlan, started: Started, parts: Parts) -> None:
        self.plan, self.device, self.parts, self._started = plan, started.device, parts, started
        self.first = plan.autoencoder_steps
        self.vae = Learner(parts.vae, plan, self.device, lr=plan.vae_lr, steps=self.first)
        self.before = self.first + plan.naming_steps
        self.naming = Learner(Naming(parts.text_encoder), plan, self.device, lr=NAMING_LR, steps=plan.naming_steps)
        both = nn.ModuleList([parts.unet, parts.text_encoder])
        self.denoiser = Learner(both, plan, self.device, lr=plan.lr, steps=plan.steps, lr_scale=_text_slowly)
        self._kept: dict[bool, Kept] = {}  # by whether they are calm
        self._ready = False  # the autoencoder is done, and its latents have been measured
        self._alphas = parts.scheduler.alphas_cumprod.to(started.device)

    def rate(self, step: int) -> float:
        if step < self.first:
            return self.vae.rate(step)
        return self.naming.rate(step - self.first) if step < self.before else self.denoiser.rate(step - self.before)

    def advance(self, step: int) -> Mapping[str, float]:
        """One update. Lines hold ``psnr`` of the autoencoder in dB, and the share of captions whose thing is ``named`` right."""
        seed_everything(derive(self.plan.seed, "pass", step))
        if step < self.first:
            loss, psnr = self._reconstruct(step)
            self.vae.update(loss, step)
            return {"loss": float(loss.detach()), "psnr": psnr}
        if step < self.before:
            loss, right = self._name(step - self.first)
            self.naming.update(loss, step - self.first)
            return {"loss": float(loss.detach()), "named": right}
        if step == self.before and self.plan.naming_steps:  # what was learned since is to be averaged, not what was there before
            self.denoiser.average.module.load_state_dict(self.denoiser.network.state_dict())
        self._prepare()
        loss = self._denoise(step - self.before)
        self.denoiser.update(loss, step - self.before)
        return {"loss": float(loss.detach())}

    def finished(self) -> Parts:
        """The averaged weights in fp32 on the CPU, ready to be written."""
        self._prepare()
        unet, text_encoder = self.denoiser.average.module
        parts = Parts(self.parts.vae, text_encoder, self.parts.tokenizer, unet, self.parts.scheduler)
        for part in (parts.vae, unet, text_encoder):
            part.eval().cpu()
        return parts

    def state(self) -> dict[str, Any]:
        return {"vae": self.vae.state(), "naming": self.naming.state(), "denoiser": self.denoiser.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.vae.restore(state["vae"])
        self.naming.restore(state["naming"])
        self.denoiser.restore(state["denoiser"])

    def _reconstruct(self, step: int) -> tuple[Tensor, float]:
        """Mean absolute error of the pixels and of their differences, which keeps edges sharp; latents are kept small."""
        plan = self.plan
        drawn = scenes(derive(plan.seed, "vae"), _indices(step, plan.vae_batch), plan.size)
        truth = _pieces(pixels(drawn.images)).to(self.device)
        with autocast(self._started):
            latents = self.vae.network.encode(truth).latents  # type: ignore[operator]
            made = self.vae.network.decode(latents + NOISE * torch.randn_like(latents)).sample.float()  # type: ignore[operator]
        loss = functional.l1_loss(made, truth) + EDGES * _edges(made, truth) + SPREAD * latents.float().square().mean()
        return loss, float(-10 * ((made.detach() - truth) / 2).square().mean().log10())

    def _name(self, step: int) -> tuple[Tensor, float]:
        seed, indices = derive(self.plan.seed, "naming"), _indices(step, NAMING_BATCH)
        drawn = scenes(seed, indices, LEAST_SIZE)
        tokens = self._tokens(told(drawn, seed, indices))
        naming: Any = self.naming.network
        with autocast(self._started), written_out(self._started):
            loss, right = naming.loss(tokens, [answer.to(self.device) for answer in named(drawn)], self.parts.tokenizer.eos_token_id)
        return loss, float(right)

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        tokens: Tensor = self.parts.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
        return tokens.to(self.device)

    def _prepare(self) -> None:
        """Put the autoencoder's averaged weights in force, and measure by what its latents are divided to have unit variance."""
        if self._ready:
            return
        vae = self.parts.vae
        if self.first:
            vae.load_state_dict(self.vae.average.module.state_dict())
        vae.requires_grad_(False).eval()
        if self.first:
            parts = []
            for first in range(0, CALIBRATION, CALIBRATED_AT_ONCE):
                drawn = scenes(derive(self.plan.seed, "calibration"), range(first, first + CALIBRATED_AT_ONCE), self.plan.size)
                with torch.no_grad():
                    parts.append(vae.encode(pixels(drawn.images).to(self.device)).latents.float())
            vae.register_to_config(scaling_factor=round(float(1 / torch.cat(parts).std()), 5))
        self._ready = True

    def _denoise(self, step: int) -> Tensor:
        """Velocity prediction (Salimans & Ho 2022, arXiv 2202.00512, appendix D)."""
        plan = self.plan
        latents, said = self._pictures(step)
        captions = ["" if float(share) < plan.drop else text for share, text in zip(torch.rand(plan.batch), said, strict=True)]
        both: Any = self.denoiser.network
        unet, text_encoder = both
        noise = torch.randn(latents.shape).to(self.device)
        # Spread evenly over the batch, which makes the loss less noisy than drawing each on its own.
        times = ((torch.arange(plan.batch) + torch.rand(1)) / plan.batch * len(self._alphas)).long()[torch.randperm(plan.batch)]
        times = times.to(self.device)
        alphas = self._alphas[times][:, None, None, None]
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
        tokens = self._tokens(captions)
        with autocast(self._started), written_out(self._started):
            guess = unet(noisy, times, text_encoder(tokens).last_hidden_state).sample
        ratio = (alphas / (1 - alphas)).flatten()
        weights = ratio.clamp(*SNR) / (ratio + 1)
        loss: Tensor = (weights * (guess.float() - velocity).square().mean((1, 2, 3))).mean()
        return loss

    def _pictures(self, step: int) -> tuple[Tensor, list[str]]:
        """Latents of a batch of pictures, and their captions."""
        plan, seed = self.plan, derive(self.plan.seed, "generate")
        calm = plan.calm_after is not None and step >= plan.calm_after
        if plan.pictures is None:
            return rendered(self._encode, seed, _indices(step, plan.batch), plan.size, calm=calm)
        if calm not in self._kept:
            self._kept[calm] = Kept(self._encode, seed, plan.pictures, plan.size, calm=calm)
        return self._kept[calm].draw(plan.batch)

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.parts.vae.encode(images.to(self.device)).latents * self.parts.vae.config.scaling_factor
        return latents


def _text_slowly(name: str, parameter: Tensor) -> float:
    """By what the rate of a parameter of the U-Net and the text encoder is multiplied."""
    return TEXT_SHARE if name.startswith("1.") else 1.0


def _indices(step: int, batch: int) -> Sequence[int]:
    return range(step * 1000, step * 1000 + batch)


def _pieces(images: Tensor) -> Tensor:
    """(B, 3, S, S) to (B * PIECES, 3, PIECE, PIECE), from random places."""
    size = images.shape[-1]
    places = torch.randint(0, size - PIECE + 1, (len(images), PIECES, 2)).tolist()
    cut = [image[:, top : top + PIECE, left : left + PIECE] for image, row in zip(images, places, strict=True) for top, left in row]
    return torch.stack(cut)


def _edges(made: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbouring pixels."""
    error = made - truth
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
