"""Which files a model consists of, family by family: in a folder on this disk, or in a repository of the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from . import pipelines

CONFIG = "config.json"


@dataclass(frozen=True)
class Layout:
    """The files of a model, in a folder or a repository.

    Attributes:
        library: whose layout it is, for messages.
        config: name of the configuration; None where it comes with the library, or can.
        weights: names of the weights, in the order of preference; what is no safetensors is read with torch.load(weights_only=True), and
            ``.index.json`` lists shards. None where the configuration lists components, each in a folder of its own; see `pipelines`.
        extra: names of files that the model may have besides.
        second: the files of a second network, without which the first is no model.
        second_repo: the repository of the second network; None where both are in one.
    """

    library: str
    config: str | None
    weights: tuple[str, ...] | None
    extra: tuple[str, ...] = ()
    second: Layout | None = None
    second_repo: str | None = None

    def find(self, folder: Path) -> Path | None:
        """The weights in a folder: of the names that are there the first."""
        return next((folder / name for name in self.weights or () if (folder / name).is_file()), None)

    def inside(self, folder: str) -> Layout:
        """The same in a folder of the model's folder."""
        names = {key: tuple(f"{folder}/{name}" for name in getattr(self, key) or ()) for key in ("weights", "extra")}
        return replace(self, config=self.config and f"{folder}/{self.config}", weights=names["weights"], extra=names["extra"])


TIMM = Layout("timm", CONFIG, ("model.safetensors", "pytorch_model.bin"))
SAM2 = Layout("SAM 2", "config.yaml", ("model.safetensors",))
DIFFUSERS = Layout("diffusers", pipelines.INDEX, None)
LLAMA = Layout("LLaMA", CONFIG, ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"))
VQGAN = Layout("VQGAN", None, ("diffusion_pytorch_model.safetensors", "model.safetensors", "pytorch_model.bin"), extra=(CONFIG,))
LVM = replace(LLAMA.inside("llama"), library="LVM", second=VQGAN.inside("vqgan"))

# Meta's repositories also hold the model for transformers, as config.json and model.safetensors with other names of the tensors.
_META_SAM2 = re.compile(r"facebook/(sam2(\.1)?-hiera-[a-z-]+)")
# The public LVM lies in two repositories: transformers' LLaMA, and open-muse's VQGAN.
_KNOWN = {"Emma02/LVM_ckpts": replace(LLAMA, library="LVM", second=VQGAN, second_repo="Emma02/vqvae_ckpts")}


def of(name: str) -> tuple[Layout, ...]:
    """How the files of a repository may lie, in the order in which to look. The name is without a revision."""
    if meta := _META_SAM2.fullmatch(name):
        return (Layout("SAM 2", None, (meta[1].replace("-", "_") + ".pt",)),)
    return (_KNOWN[name],) if name in _KNOWN else (TIMM, SAM2, DIFFUSERS)
