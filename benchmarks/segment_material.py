"""What the segmentation benchmarks run on: a clip of the tiny world as frames and as a video, and a model at 1024 pixels."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .material import made

FPS, SIZE = 24.0, 256
TINY, LARGE = "tiny-sam2", "sam2.1_hiera_t, random weights"


def frames(count: int) -> Path:
    """A folder of ``count`` JPEGs, 00000.jpg and so on: the only input that SAM 2's own predictor reads without another library."""

    def make(folder: Path) -> None:
        from visiontk.tiny import world

        clip = world.render_clip(7, 0, count, size=SIZE, objects=3)
        for number, frame in enumerate(clip.frames):
            Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(folder / f"{number:05}.jpg", quality=95)

    return Path(made(f"clip-{count}", make)[0]).parent


def video(count: int) -> Path:
    """The same frames as an H.264 file."""

    def make(folder: Path) -> None:
        from visiontk.media.video_writer import VideoWriter

        with (folder / "clip.mp4").open("wb") as file, VideoWriter(file, width=SIZE, height=SIZE, fps=FPS) as writer:
            for path in sorted(frames(count).iterdir()):
                writer.write(Image.open(path).convert("RGB"))

    return Path(made(f"video-{count}", make)[0])


def large_model(size: str = "t") -> Path:
    """A folder with SAM 2.1's configuration of a size (t, s, b+ or l) and seeded random weights: speed does not depend on the values."""

    def make(folder: Path) -> None:
        import sam2
        import torch
        from hydra.utils import instantiate
        from omegaconf import OmegaConf
        from safetensors.torch import save_file

        torch.manual_seed(0)
        text = (Path(sam2.__path__[0]) / "configs" / "sam2.1" / f"sam2.1_hiera_{size}.yaml").read_text("utf-8")
        model = instantiate(OmegaConf.create(text).model)
        with torch.no_grad():  # an object that is hidden would spare ours the resizing of its mask
            model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(10.0)
        (folder / "config.yaml").write_text(text, "utf-8")
        save_file(model.state_dict(), folder / "model.safetensors")

    return Path(made(f"sam2.1_hiera_{size}", make)[0]).parent
