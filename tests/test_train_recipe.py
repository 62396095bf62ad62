"""The recipe of training, against closed forms and timm's own code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from visiontk.errors import ModelUnavailable, UsageError
from visiontk.runtime import Started
from visiontk.training.network import head, make_network, parse_arguments
from visiontk.training.patch_dropout import PatchDropping
from visiontk.training.pictures import StepOrder
from visiontk.training.plain_attention import unfuse, written_out
from visiontk.training.plan import Plan, schedule
from visiontk.training.recipe import learning_rate, make_optimiser

if TYPE_CHECKING:
    from tests.conftest import TinyModel


def test_the_learning_rate_rises_in_a_line_and_falls_along_half_a_cosine() -> None:
    planned = schedule(Plan("d", model="m", steps=100, lr=0.02, warmup=10), 1000)
    assert planned.warmup == 10
    assert learning_rate(0, planned) == pytest.approx(0.002)
    assert learning_rate(9, planned) == learning_rate(10, planned) == pytest.approx(0.02)
    assert learning_rate(55, planned) == pytest.approx(0.01)
    assert learning_rate(32, planned) == pytest.approx(0.02 * math.cos(math.pi * 22 / 180) ** 2)  # the half-angle form
    assert learning_rate(100, planned) == pytest.approx(0.0)


def test_the_recipe_of_transfer_is_the_vit_papers() -> None:
    planned = schedule(Plan("d", model="m", epochs=10), 51_200)
    assert (planned.batch, planned.steps, planned.warmup, planned.clip) == (512, 1000, 100, 1.0)
    assert schedule(Plan("d", model="m", steps=20_000), 51_200).warmup == 500
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    optimiser = make_optimiser(network, Plan("d", model="m"), planned)
    assert isinstance(optimiser, torch.optim.SGD)
    assert {(group["momentum"], group["nesterov"], group["weight_decay"]) for group in optimiser.param_groups} == {(0.9, False, 0.0)}


def test_from_scratch_adamw_decays_matrices_alone() -> None:
    planned = schedule(Plan("d", from_scratch="m", batch_size=256), 51_200)
    assert planned.lr == pytest.approx(5e-4)
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    optimiser = make_optimiser(network, Plan("d", from_scratch="m"), planned)
    assert isinstance(optimiser, torch.optim.AdamW)
    decayed = [p for group in optimiser.param_groups if group["weight_decay"] == 0.05 for p in group["params"]]
    assert len(decayed) == 1 and decayed[0] is network[0].weight


OF_STEPS: dict[str, Any] = {
    "epochs": 3.0,
    "steps": 5,
    "batch_size": 8,
    "accumulate": 2,
    "lr": 0.1,
    "warmup": 3,
    "clip": 2.0,
    "augment": "strong",
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "patch_drop": 0.5,
    "ema": 0.9,
    "eval_every": 2,
    "save_every": 2,
}


@pytest.mark.parametrize("name", [*OF_STEPS, "weight_decay", "half"])
def test_probes_refuse_what_they_do_not_use(name: str) -> None:
    value: Any = {**OF_STEPS, "weight_decay": 0.1, "half": True}[name]
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(UsageError, match=rf"--few-shot trains nothing and writes no model; leave out {flag}$"):
        Plan("d", model="m", few_shot="1,5", **{name: value}).check()
    if name in OF_STEPS:
        with pytest.raises(UsageError, match=rf"--linear-probe trains no weights; leave out {flag}$"):
            Plan("d", model="m", linear_probe=True, **{name: value}).check()
    else:
        Plan("d", model="m", linear_probe=True, **{name: value}).check()
    Plan("d", model="m", **{name: value}).check()


def test_patches_are_left_out_of_a_vit_until_it_is_to_see_them_all() -> None:
    plan = Plan("d", from_scratch="test_vit", patch_drop=0.75, whole_after=2)
    network: Any = make_network(plan, ["a", "b"])
    dropping = PatchDropping(network, plan)
    patches = network.patch_embed.num_patches
    seen: list[int] = []
    network.blocks[0].register_forward_hook(lambda block, arguments, answer: seen.append(answer.shape[1]))
    for step in range(4):
        dropping.begin(step)
        network.train()(torch.zeros(1, 3, 160, 160))
    dropping.begin(0)
    network.eval()(torch.zeros(1, 3, 160, 160))
    assert seen == [patches // 4 + 1] * 2 + [patches + 1] * 3
    assert network.state_dict().keys() == make_network(Plan("d", from_scratch="test_vit"), ["a", "b"]).state_dict().keys()


def test_without_an_end_patches_are_left_out_to_the_last_step() -> None:
    network: Any = make_network(Plan("d", from_scratch="test_vit"), ["a"])
    dropping = PatchDropping(network, Plan("d", from_scratch="test_vit", patch_drop=0.5))
    dropping.begin(10**6)
    assert network.patch_drop.prob == 0.5


def test_patches_can_be_left_out_of_transformers_only() -> None:
    plan = Plan("d", from_scratch="resnet18", patch_drop=0.5)
    with pytest.raises(UsageError, match="--patch-drop is for plain vision transformers, and this is a ResNet; leave it out"):
        PatchDropping(make_network(plan, ["a"]), plan)
    with pytest.raises(UsageError, match="--whole-after ends --patch-drop, which is not there"):
        Plan("d", model="m", whole_after=3).check()


def test_attention_is_written_out_where_that_is_quicker_and_computes_the_same() -> None:
    network = make_network(Plan("d", from_scratch="test_vit"), ["a", "b", "c"]).eval()
    pixels = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    fused = [module for module in network.modules() if getattr(module, "fused_attn", False)]
    before = network(pixels)
    for dtype in (torch.float32, torch.float16):
        unfuse(network, Started(torch.device("cpu"), dtype, False, None))
    unfuse(network, Started(torch.device("cuda"), torch.bfloat16, False, None))
    assert fused and all(module.fused_attn for module in fused)
    unfuse(network, Started(torch.device("cpu"), torch.bfloat16, False, None))
    assert not any(module.fused_attn for module in fused)
    assert torch.allclose(network(pixels), before, atol=1e-5)


def test_torchs_attention_is_written_out_in_bf16_on_a_cpu_alone() -> None:
    from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

    cpu, before = torch.device("cpu"), _cur_sdpa_kernel_backends()
    for started in (Started(cpu, torch.float32, False, None), Started(torch.device("cuda"), torch.bfloat16, False, None)):
        with written_out(started):
            assert _cur_sdpa_kernel_backends() == before
    queries, keys, values = torch.randn(3, 2, 4, 16, 8, generator=torch.Generator().manual_seed(1)).bfloat16().unbind(0)
    fused = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
    with written_out(Started(cpu, torch.bfloat16, False, None)):
        assert _cur_sdpa_kernel_backends() == [SDPBackend.MATH]
        found = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
    assert _cur_sdpa_kernel_backends() == before
    assert torch.allclose(found.float(), fused.float(), atol=0.03)


def test_probes_take_what_they_use() -> None:
    used: dict[str, Any] = {"arch_args": "a=1", "size": 32, "val_share": 0.2, "seed": 4}
    for plan in (Plan("d", model="m", linear_probe=True, **used), Plan("d", model="m", few_shot="1,5", **used)):
        plan.check()
        with pytest.raises(UsageError, match=r"leave out --compile$"):
            plan.check(["--compile"])
    with pytest.raises(UsageError, match=r"leave out --patch-drop and --whole-after$"):
        Plan("d", model="m", linear_probe=True, patch_drop=0.5, whole_after=3).check()
    with pytest.raises(UsageError, match=r"leave out --epochs, --lr and --ema$"):
        Plan("d", model="m", linear_probe=True, lr=0.1, ema=0.9, epochs=0.0).check()
    Plan("d", model="m").check(["--compile"])


def test_a_small_data_set_is_not_seen_several_times_in_one_batch() -> None:
    assert schedule(Plan("d", model="m"), 90).batch == 90
    assert schedule(Plan("d", model="m", accumulate=4), 90).batch == 88
    with pytest.raises(UsageError, match="equal parts"):
        schedule(Plan("d", model="m", batch_size=10, accumulate=3), 90)


def test_a_new_head_is_zero_and_the_rest_is_the_models(tiny_model: TinyModel) -> None:
    for classes in (3, len(tiny_model.labels)):  # as many as before as well
        network = make_network(Plan("d", model=str(tiny_model.folder)), [str(number) for number in range(classes)])
        assert network(torch.randn(2, 3, 160, 160)).abs().max() == 0
        assert head(network).weight.shape[0] == classes  # type: ignore[index]
        before = tiny_model.network()[0].state_dict()
        for name, tensor in network.state_dict().items():
            assert name.startswith("head.") or torch.equal(tensor, before[name]), name


def test_the_same_classes_keep_their_head(tiny_model: TinyModel) -> None:
    network = make_network(Plan("d", model=str(tiny_model.folder), same_classes=True), tiny_model.labels)
    for name, tensor in tiny_model.network()[0].state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    for others in (tiny_model.labels[::-1], tiny_model.labels[:3]):
        with pytest.raises(UsageError, match="knows other classes"):
            make_network(Plan("d", model=str(tiny_model.folder), same_classes=True), others)
    with pytest.raises(UsageError, match="--same-classes"):
        Plan("d", from_scratch="test_vit", same_classes=True).check()


def test_position_embeddings_are_resampled_as_timm_does_it(tiny_model: TinyModel) -> None:
    from timm.layers import resample_abs_pos_embed

    network = make_network(Plan("d", model=str(tiny_model.folder), size=96), ["a", "b", "c"])
    before = tiny_model.network()[0]
    wanted = resample_abs_pos_embed(before.pos_embed, new_size=[6, 6], num_prefix_tokens=before.num_prefix_tokens)
    assert before.pos_embed.shape != wanted.shape
    assert torch.equal(network.pos_embed, wanted)  # type: ignore[arg-type]


def test_a_convnet_takes_another_size_as_well(tiny_convnet: TinyModel) -> None:
    from visiontk.training.network import data_config

    network = make_network(Plan("d", model=str(tiny_convnet.folder), size=64), ["a", "b", "c"])
    assert data_config(network)["input_size"] == (3, 64, 64)


def test_arguments_of_an_architecture_are_typed() -> None:
    assert parse_arguments("") == {}
    text = "img_size=(64, 64),depth=6,mlp_ratio=2.5,global_pool=avg,qkv_bias=False,init_values=None,norm='x'"
    wanted = {"img_size": (64, 64), "depth": 6, "mlp_ratio": 2.5, "global_pool": "avg", "qkv_bias": False, "init_values": None, "norm": "x"}
    assert parse_arguments(text) == wanted
    for wrong in ("depth", "depth=", "depth=1+x", "3", "**x", "__import__('os')"):
        with pytest.raises(UsageError, match="arch-args"):
            parse_arguments(wrong)


def test_what_cannot_be_built_says_so() -> None:
    with pytest.raises(ModelUnavailable, match="no architecture"):
        make_network(Plan("d", from_scratch="vit_of_nobody"), ["a", "b", "c"])
    with pytest.raises(UsageError, match="cannot be built"):
        make_network(Plan("d", from_scratch="test_vit", arch_args="wheels=4"), ["a", "b", "c"])
    with pytest.raises(UsageError, match="RGB"):
        make_network(Plan("d", from_scratch="test_vit", arch_args="in_chans=1"), ["a", "b", "c"])


def test_the_order_is_a_function_of_seed_and_step_alone() -> None:
    whole = list(StepOrder(10, 4, 2, seed=3, start=0, stop=25))
    assert len(whole) == len(StepOrder(10, 4, 2, seed=3, start=0, stop=25)) == 50
    assert whole[14:] == list(StepOrder(10, 4, 2, seed=3, start=7, stop=25))
    keys = [key for part in whole for key in part]
    for epoch in range(10):  # every image once in every epoch, each in an order of its own
        assert keys[epoch * 10][0] == epoch
        assert sorted(index for _, index in keys[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert [index for _, index in keys[:10]] != [index for _, index in keys[10:20]]
    assert keys != [key for part in StepOrder(10, 4, 2, seed=4, start=0, stop=25) for key in part]
