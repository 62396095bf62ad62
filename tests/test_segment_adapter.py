"""Objects in single images: SAM2ImagePredictor's answers to the bit, and those of transformers' own SAM 2 closely."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

import visiontk
from visiontk.adapters.segment import Auto, Everything, ObjectPrompt, Segmenter
from visiontk.adapters.segment_network import Network
from visiontk.errors import DeviceError, OutOfMemory, UsageError
from visiontk.runtime import Runtime

WIDTH, HEIGHT = 96, 64
CONFIG = Path(__file__).parent / "data" / "random-sam2.yaml"
POINT = ObjectPrompt(1, points=((25.0, 50.0),), labels=(1,))
POINTS = ObjectPrompt(2, points=((70.0, 20.0), (10.0, 10.0)), labels=(1, 0))
BOX = ObjectPrompt(3, box=(20.0, 10.0, 60.0, 60.0))
BOTH = ObjectPrompt(4, points=((30.0, 30.0),), labels=(0,), box=(20.0, 10.0, 60.0, 60.0))


@functools.cache
def built() -> Any:
    """SAM2Base with random weights, spread so that prompts matter."""
    torch.manual_seed(0)
    extra = {"dynamic_multimask_via_stability": True, "dynamic_multimask_stability_delta": 0.05, "dynamic_multimask_stability_thresh": 0.98}
    model = instantiate(OmegaConf.merge(OmegaConf.load(CONFIG).model, {"sam_mask_decoder_extra_args": extra})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def segmenter(dtype: str = "fp32", **options: Any) -> Segmenter:
    network = Network(copy.deepcopy(built()), Runtime(device="cpu", dtype=dtype, **options).start())
    return Segmenter(network, name="random", revision="0")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    random = np.random.default_rng(0)
    blurred = Image.fromarray(random.integers(0, 255, (8, 12, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    blurred.paste((255, 40, 20), (10, 30, 28, 48))
    return blurred


@pytest.fixture(scope="module")
def predictor(image: Image.Image) -> SAM2ImagePredictor:
    found = SAM2ImagePredictor(copy.deepcopy(built()))
    found._bb_feat_sizes = [(32, 32), (16, 16), (8, 8)]  # it is made for 1024 pixels
    found.set_image(image)
    return found


def ask(predictor: SAM2ImagePredictor, prompt: ObjectPrompt) -> tuple[np.ndarray[Any, Any], float]:
    points, labels = (np.array(prompt.points), np.array(prompt.labels)) if prompt.points else (None, None)
    single = len(prompt.points) == 1 and prompt.box is None
    masks, ious, _ = predictor.predict(points, labels, None if prompt.box is None else np.array(prompt.box), multimask_output=single)
    best = int(ious.argmax())
    return masks[best] > 0, float(ious[best])


def test_masks_and_ious_are_the_official_predictors(image: Image.Image, predictor: SAM2ImagePredictor) -> None:
    prompts = [POINT, POINTS, BOX, BOTH]
    found = segmenter().image(image, prompts)
    assert [one.object_id for one in found] == [1, 2, 3, 4]
    for one, prompt in zip(found, prompts, strict=True):
        mask, iou = ask(predictor, prompt)
        assert one.mask.dtype == np.bool_ and one.mask.any() and not one.mask.all()
        np.testing.assert_array_equal(one.mask, mask)
        assert one.iou == iou
        assert 0 < one.score < 1


def test_a_model_with_one_mask_for_a_click_is_asked_for_one(image: Image.Image, predictor: SAM2ImagePredictor) -> None:
    ours = segmenter()
    ours.network.model.multimask_output_in_sam = False
    ours.network.model.sam_mask_decoder.dynamic_multimask_via_stability = False
    [one] = ours.image(image, [POINT])
    decoder = predictor.model.sam_mask_decoder
    decoder.dynamic_multimask_via_stability = False
    [mask], [iou], _ = predictor.predict(np.array(POINT.points), np.array(POINT.labels), multimask_output=False)
    decoder.dynamic_multimask_via_stability = True
    np.testing.assert_array_equal(one.mask, mask > 0)
    assert one.iou == iou != ask(predictor, POINT)[1]


def test_and_so_they_are_under_bf16_autocast(image: Image.Image, predictor: SAM2ImagePredictor) -> None:
    [one] = segmenter("bf16").image(image, [POINT])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictor.set_image(image)
        mask, iou = ask(predictor, POINT)
    predictor.set_image(image)
    np.testing.assert_array_equal(one.mask, mask)
    assert one.iou == iou


def test_a_mask_is_refined_together_with_its_box(image: Image.Image, predictor: SAM2ImagePredictor) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[10:31, 40:70] = True
    [one] = segmenter().image(image, [ObjectPrompt(5, mask=mask)])
    square = F.interpolate(torch.from_numpy(mask)[None, None].float(), (128, 128), mode="bilinear", antialias=True) >= 0.5
    hint = F.interpolate(square.float() * 20 - 10, (32, 32), mode="bilinear", antialias=True)[0].numpy()
    masks, ious, _ = predictor.predict(box=np.array([40, 10, 70, 31]), mask_input=hint, multimask_output=False)
    np.testing.assert_array_equal(one.mask, masks[0] > 0)
    assert one.iou == float(ious[0])


def test_an_empty_mask_is_nothing(image: Image.Image) -> None:
    [one] = segmenter().image(image, [ObjectPrompt(1, mask=np.zeros((HEIGHT, WIDTH), dtype=np.bool_))])
    assert not one.mask.any() and one.score == 0


def in_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """sam2's names of tensors to those of transformers' Sam2Model."""
    names = [
        (r"^no_mem_embed", "no_memory_embedding"),
        (r"^image_encoder\.trunk", "vision_encoder.backbone"),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv", r"vision_encoder.neck.convs.\1"),
        (r"patch_embed\.proj", "patch_embed.projection"),
        (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix", "prompt_encoder.shared_embedding.positional_embedding"),
        (r"^sam_", ""),
        (r"mask_downscaling\.0", "mask_embed.conv1"),
        (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
        (r"mask_downscaling\.3", "mask_embed.conv2"),
        (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
        (r"mask_downscaling\.6", "mask_embed.conv3"),
        (r"output_upscaling\.0", "upscale_conv1"),
        (r"output_upscaling\.1", "upscale_layer_norm"),
        (r"output_upscaling\.3", "upscale_conv2"),
        (r"mlp\.layers\.0", "mlp.proj_in"),
        (r"mlp\.layers\.1", "mlp.proj_out"),
        (r"((?:mlps\.\d|head)\.)layers\.0", r"\1proj_in"),
        (r"((?:mlps\.\d|head)\.)layers\.2", r"\1proj_out"),
        (r"((?:mlps\.\d|head)\.)layers\.1", r"\1layers.0"),
        (r"\.norm(\d|_)", r".layer_norm\1"),
        (r"(attn\w*|image|token)\.out_proj", r"\1.o_proj"),
    ]
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    points = [renamed.pop(f"prompt_encoder.point_embeddings.{index}.weight") for index in range(4)]
    shared = renamed["prompt_encoder.shared_embedding.positional_embedding"]
    return renamed | {"prompt_encoder.point_embed.weight": torch.cat(points), "shared_image_embedding.positional_embedding": shared}


def test_transformers_own_implementation_agrees(image: Image.Image) -> None:
    from transformers import Sam2Config, Sam2Model

    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [128, 128], "blocks_per_stage": [1, 1, 2, 1]}
    backbone |= {"embed_dim_per_stage": [8, 16, 32, 64], "window_size_per_stage": [8, 4, 4, 4], "global_attention_blocks": [3]}
    backbone |= {"window_positional_embedding_background_size": [4, 4]}
    vision = {"fpn_hidden_size": 32, "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
    decoder = {"hidden_size": 32}
    config = Sam2Config(
        vision_config={**vision, "backbone_config": backbone},
        prompt_encoder_config={"hidden_size": 32, "image_size": 128},
        mask_decoder_config=decoder,
    )
    theirs = Sam2Model(config).eval()
    weights = in_transformers(built().state_dict())
    theirs.load_state_dict({name: weights[name] for name in theirs.state_dict()})
    ours = segmenter().network
    scale = torch.tensor([128 / WIDTH, 128 / HEIGHT])
    for prompt in (POINT, POINTS, BOX):
        with ours.running():
            features = ours.encode(image)
            clicks = ours.clicks(prompt, features)
            assert clicks is not None
            logits, iou, score = ours.decode(features, clicks)
            if prompt.box is None:
                given = {"input_points": torch.tensor([[prompt.points]]) * scale, "input_labels": torch.tensor([[prompt.labels]])}
            else:
                given = {"input_boxes": (torch.tensor(prompt.box).view(2, 2) * scale).view(1, 1, 4)}
            said = theirs(pixel_values=ours.pixels(image), multimask_output=prompt is POINT, **given)
        best = int(said.iou_scores[0, 0].argmax())
        assert 0 < (logits > 0).float().mean() < 1
        torch.testing.assert_close(logits[0, 0], said.pred_masks[0, 0, best], rtol=0, atol=1e-4)
        torch.testing.assert_close(iou, said.iou_scores[0, 0, best], rtol=0, atol=1e-5)
        torch.testing.assert_close(score, said.object_score_logits[0, 0, 0], rtol=0, atol=1e-4)


def test_the_first_frame_of_a_video_is_an_image(image: Image.Image) -> None:
    ours = segmenter()
    [alone] = ours.image(image, [POINTS])
    [frame] = list(ours.video([(0, image)], [POINTS]))
    if alone.score > 0.5:
        np.testing.assert_array_equal(frame.objects[0].mask, alone.mask)
    assert (frame.objects[0].iou, frame.objects[0].score) == (alone.iou, alone.score)


def test_an_image_is_encoded_once_for_all_its_prompts(image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = segmenter()
    encoded: list[int] = []
    whole = ours.network.encode

    def counted(image: Image.Image) -> Any:
        encoded.append(1)
        return whole(image)

    monkeypatch.setattr(ours.network, "encode", counted)
    ours.image(image, [POINT, POINTS, BOX])
    assert len(encoded) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_other_modes_are_seen_in_rgb(mode: str, image: Image.Image) -> None:
    other = image.convert(mode)
    found, wanted = (segmenter().image(picture, [BOX])[0] for picture in (other, other.convert("RGB")))
    np.testing.assert_array_equal(found.mask, wanted.mask)


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (130, 128)])
def test_pictures_of_any_shape(size: tuple[int, int]) -> None:
    [one] = segmenter().image(Image.new("RGB", size, (200, 30, 60)), [ObjectPrompt(1, points=((0.5, 0.5),), labels=(1,))])
    assert one.mask.shape == size[::-1]


def test_a_prompt_that_makes_no_sense_is_refused_before_any_work(image: Image.Image) -> None:
    with pytest.raises(UsageError, match="the prompt for object 7 on frame 0 is empty"):
        segmenter().image(image, [BOX, ObjectPrompt(7)])


def test_nothing_is_printed(image: Image.Image, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    ours = segmenter()
    ours.image(image, [POINT])
    ours.everything(image, Everything(points_per_side=2, min_iou=0, min_stability=0))
    list(ours.video(enumerate([image] * 3), [POINT], auto=Auto(Everything(points_per_side=2))))
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_compiling_is_for_the_image_encoder_once(image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    real = torch.compile

    def compile_eagerly(function: Any, **options: Any) -> Any:
        compiled.append((function.__self__, options))
        return real(function, backend="eager", **options)  # captured and run as graphs; code for them wants a C++ compiler, and long

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    ours = segmenter(compile=True)
    assert compiled == [(ours.network.model.image_encoder, {"dynamic": False})]
    np.testing.assert_array_equal(ours.image(image, [POINT])[0].mask, segmenter().image(image, [POINT])[0].mask)


def test_a_compiler_that_fails_is_named(image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch._dynamo.exc.Unsupported("no g++")

    monkeypatch.setattr(torch, "compile", lambda function, **_: fails)
    with pytest.raises(DeviceError, match=r"torch.compile failed.*leave out --compile"):
        segmenter(compile=True).image(image, [POINT])


def test_running_out_of_memory_is_said_as_such(image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    ours = segmenter()
    monkeypatch.setattr(ours.network.model, "forward_image", full)
    with pytest.raises(OutOfMemory):
        ours.image(image, [POINT])
    with pytest.raises(OutOfMemory):
        ours.everything(image)


def test_tasks_are_named_when_there_is_none_such() -> None:
    with pytest.raises(UsageError, match="use classify, segment, generate or lvm"):
        visiontk.load("paint")  # type: ignore[call-overload]
