"""What a run of ``visiontk train lvm`` was asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from visiontk.errors import UsageError

from .plan import command_line

SIZE = 64  # side of a frame in pixels
LEAST_CODES = 4  # fewer have too few pictures to begin with


@dataclass(frozen=True)
class LvmPlan:
    """The options of ``visiontk train lvm``, by their names.

    Attributes:
        data: ``tiny``, the bundled world.
        model: a trained model whose LLaMA is trained further; its codes stay as they are, and ``vqgan_steps`` is 0. Empty for none.
        steps: updates of the LLaMA.
        vqgan_steps: updates of the VQGAN before them.
        decoder_steps: after these, updates of the VQGAN's decoder alone, which leave the codes of every picture as they are.
        vqgan: a model, such as another run's folder, whose VQGAN is taken, or a VQGAN alone; then ``vqgan_steps`` is 0. Empty for none.
        codes: of the VQGAN, which is the vocabulary of the LLaMA.
        batch: sentences of 16 frames in a step of the LLaMA.
        vqgan_batch: pictures in a step of the VQGAN or its decoder, even.
        lr, vqgan_lr: highest learning rates; up in a line for ``warmup`` steps, then down along half a cosine.
        weight_decay, clip: of the optimisers; ``clip`` is the gradients' largest norm.
        ema: moving average of the weights, which is what is written.
        half: the LLaMA is written in fp16; the VQGAN is in fp32 always.
    """

    data: str = "tiny"
    model: str = ""
    steps: int = 2400
    vqgan_steps: int = 10000
    decoder_steps: int = 0
    vqgan: str = ""
    codes: int = 1024
    batch: int = 4
    vqgan_batch: int = 8
    lr: float = 2e-3
    vqgan_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.99
    half: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError for options that make no sense together."""
        if self.data != "tiny":
            raise UsageError(f"{self.data} is no data set that sequences are trained on; use tiny")
        if not LEAST_CODES <= self.codes <= 8192:
            raise UsageError(f"--codes {self.codes} is out of range; use {LEAST_CODES} to 8192")
        if self.model and (self.vqgan or self.vqgan_steps):
            raise UsageError("--model brings its own VQGAN, whose codes stay as they are; leave out --vqgan and --vqgan-steps")
        if self.vqgan and self.vqgan_steps:
            raise UsageError("--vqgan takes the codes of a VQGAN, which --vqgan-steps would change; use --vqgan-steps 0 with it")
        if not (self.model or self.vqgan or self.vqgan_steps):
            raise UsageError("there is no VQGAN without steps for it; use --vqgan-steps 1 or more, or --vqgan NAME for one that is there")
        if self.vqgan_batch % 2:
            raise UsageError(f"--vqgan-batch {self.vqgan_batch} is odd; pictures are learned with their answers, use an even number")

    @property
    def picture_steps(self) -> int:
        """Steps of the VQGAN and of its decoder, before those of the LLaMA."""
        return self.vqgan_steps + self.decoder_steps

    def command(self, out: str, dtype: str) -> str:
        """The command line that asks for this in a type of numbers, which machines choose differently; defaults left out."""
        return command_line("lvm", self, out) + f" --dtype {dtype}"
