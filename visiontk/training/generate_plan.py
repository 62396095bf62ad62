"""What a run of ``visiontk train generate`` was asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from visiontk.errors import UsageError

from .plan import command_line

FACTOR = 4  # of the autoencoder: pixels of a side to one of the latents


@dataclass(frozen=True)
class GeneratePlan:
    """The options of ``visiontk train generate``, by their names.

    Attributes:
        data: ``tiny``, the bundled world.
        model: a trained pipeline to go on from; None starts from nothing.
        steps: updates of the U-Net and the text encoder together.
        vae_steps: updates of the autoencoder before them; None is as many as `VAE_STEPS`, or none with ``model``.
        words_steps: updates of the text encoder alone, between the two, in which it learns to say what captions name; None is as many as
            `NAMING_STEPS`, or none with ``model``.
        size: side of the pictures in pixels, a multiple of 16.
        pictures: how many different ones the U-Net learns from, again and again, which spares rendering and encoding them; None is new
            ones at every step.
        batch, vae_batch: pictures of a step.
        lr, vae_lr: highest learning rates; up in a line for ``warmup`` steps, then down along half a cosine.
        weight_decay, clip: AdamW; ``clip`` is the gradients' largest norm.
        ema: moving average of the weights, which is what is written.
        drop: share of the captions that are left out, so that the model also learns pictures without one, for guidance.
        calm_after: of ``steps``, those from here on learn from things that stand upright in the middle, in one style. They are drawn
            well long before things at any place and angle are, of which the first steps teach how pictures look at all.
    """

    data: str = "tiny"
    model: str | None = None
    steps: int = 10_000
    vae_steps: int | None = None
    words_steps: int | None = None
    size: int = 64
    pictures: int | None = None
    batch: int = 32
    vae_batch: int = 8
    lr: float = 1.5e-3
    vae_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.998
    drop: float = 0.1
    calm_after: int | None = None
    half: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError for options that make no sense together."""
        if self.data != "tiny":
            raise UsageError(f"{self.data} is no data set that generation is trained on; use tiny")
        if self.size % (4 * FACTOR) or not 32 <= self.size <= 512:
            raise UsageError(f"--size {self.size} is no multiple of {4 * FACTOR} from 32 to 512")

    @property
    def autoencoder_steps(self) -> int:
        """Steps of the autoencoder, at the start."""
        return self.vae_steps if self.vae_steps is not None else 0 if self.model else VAE_STEPS

    @property
    def naming_steps(self) -> int:
        """Steps of the text encoder alone, after those of the autoencoder."""
        return self.words_steps if self.words_steps is not None else 0 if self.model else NAMING_STEPS

    def command(self, out: str, dtype: str) -> str:
        """The command line that asks for this in a type of numbers, which machines choose differently; defaults left out."""
        return command_line("generate", self, out) + f" --dtype {dtype}"


VAE_STEPS, NAMING_STEPS = 1500, 300
