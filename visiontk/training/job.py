"""What a run does: train all weights, fit a head to frozen features, or measure them; and the folder that it leaves behind."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from visiontk import catalog
from visiontk.artefacts import write
from visiontk.errors import UsageError
from visiontk.records import encode
from visiontk.runtime import Runtime, Started

from . import fewshot, output, probe
from .checkpoint import Folder
from .distillation import Teacher
from .loop import MOST_WARNINGS, Hold, Listener, Loop, Pieces
from .measure import BATCH
from .network import data_config
from .pictures import DataConfig, Source
from .plain_attention import unfuse
from .plan import PROBE_L2, Plan, Schedule, schedule
from .recipe import Normaliser


@dataclass
class Job:
    """What the three kinds of run have in common."""

    plan: Plan
    runtime: Runtime
    started: Started
    source: Source
    network: nn.Module
    config: DataConfig
    accelerator: Any
    folder: Folder
    listener: Listener
    workers: int
    teacher: Teacher | None = None
    at_once: int = BATCH  # pictures that are measured at once

    def train(self, hold: Hold) -> dict[str, Any]:
        """Train all weights, then write the best."""
        train = self.source.pictures("train", self.config, augment=self.plan.augment, seed=self.plan.seed)
        planned = schedule(self.plan, len(train))
        if planned.micro % self.accelerator.num_processes:
            shared = f"{planned.micro} images at a time cannot be shared by {self.accelerator.num_processes} processes"
            raise UsageError(f"{shared}; change --batch-size")
        self.at_once = planned.measured
        unfuse(self.network, self.started)
        self.network.to(memory_format=torch.channels_last)  # in which convolutions are quickest, most of all in bf16
        pieces = Pieces(self.network, self.config, train, self._measured(), len(self.source.classes), self.workers, self.teacher)
        loop = Loop(self.accelerator, pieces, self.plan, planned, self.folder, self.listener, hold)
        loop.run()
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return {}
        self.network.load_state_dict(loop.best_weights())
        seconds = loop.seconds + (self.teacher.seconds if self.teacher else 0.0)
        facts = {"step": loop.best_step, "steps": planned.steps, "seconds": seconds, "unreadable": len(loop.unreadable)}
        return self._finish({**facts, "method": _method(self.plan, planned)})

    def linear_probe(self) -> dict[str, Any]:
        """Fit a head to frozen features."""
        probe.check_head(self.network)
        begun = time.perf_counter()
        l2 = PROBE_L2 if self.plan.weight_decay is None else self.plan.weight_decay
        features, unreadable = self._features()
        train = features.pop("train")
        weights, biases = probe.logistic_regression(train[0], train[1], len(self.source.classes), l2)
        probe.set_head(self.network, weights, biases)
        last = probe.check_head(self.network).cpu()
        line: dict[str, Any] = {"step": 1}
        for name, (x, labels) in {"train": train, **features}.items():
            right = (last(x).argmax(1) == labels).double().mean()
            line[name] = {"accuracy": round(float(right), 6), "images": len(labels)}
        self.listener.metrics(line)
        write(self.folder.metrics, lambda file: file.write(json.dumps(line).encode() + b"\n"))
        fitted = f"multinomial logistic regression (L-BFGS, L2 {l2:g})"
        method = f"Linear probe: {fitted} on the frozen, standardised features of {self.plan.model}."
        facts = {"step": 1, "steps": 1, "seconds": time.perf_counter() - begun, "unreadable": unreadable, "method": method}
        return self._finish(facts)

    def few_shot(self) -> dict[str, Any]:
        """Measure frozen features; nothing is trained, and no model written."""
        features, unreadable = self._features()
        train = features.pop("train")
        found = fewshot.few_shot(train, features, len(self.source.classes), self.plan.shots())
        result: dict[str, Any] = {"model": self.plan.model, "data": self.plan.data, "l2": fewshot.L2, "seeds": fewshot.SEEDS}
        sizes = train[1].bincount(minlength=len(self.source.classes))
        fewer = {str(count): int((sizes < count).sum()) for count in self.plan.shots() if (sizes < count).any()}
        result |= {"fewest": int(sizes.min()), **({"classes_with_fewer": fewer} if fewer else {}), "few_shot": found}
        if fewer:
            self._warn_of_few(max(self.plan.shots()), sizes)
        if unreadable:
            result["unreadable"] = unreadable
        path = self.folder.root / "few_shot.json"
        write(path, lambda file: file.write(encode(result)))
        return {"output": str(path), **result}

    def _warn_of_few(self, asked: int, sizes: Tensor) -> None:
        """Say that not all classes have as many images as were asked for; ``sizes`` int64 (classes)."""
        lacking = int((sizes < asked).sum())
        who = f"{lacking} classes have" if lacking > 1 else "1 class has"
        images = "1 image per class was" if asked == 1 else f"{asked} images per class were"
        self.listener.warn(f"{images} asked for; {who} fewer, the least {int(sizes.min())}")

    def _measured(self) -> dict[str, Any]:
        return {name: self.source.pictures(name, self.config, augment="none", seed=self.plan.seed) for name in self.source.measured}

    def _features(self) -> tuple[dict[str, Any], int]:
        """Features and labels of all splits, ``train`` first, and how many pictures could not be read."""
        if self.accelerator.num_processes > 1:
            raise UsageError("a probe runs in one process; start it without `torchrun` or `accelerate launch`")
        train = self.source.pictures("train", self.config, augment="none", seed=self.plan.seed)
        splits = {"train": train, **self._measured()}
        self.listener.begin(sum(len(pictures) for pictures in splits.values()), 0)
        network = self.accelerator.prepare(self.network)
        normalise = Normaliser(self.config, self.accelerator.device)
        done, missing, features = 0, 0, dict[str, Any]()

        def tell(count: int) -> None:
            nonlocal done
            done += count
            self.listener.step(done)

        for name, pictures in splits.items():
            unwrapped = self.accelerator.unwrap_model(network)
            x, labels, unreadable = probe.features_of(unwrapped, normalise, pictures, self.accelerator, self.workers, tell)
            features[name] = x, labels
            missing += len(unreadable)
            for message in unreadable[:MOST_WARNINGS]:
                self.listener.warn(f"{message}; the image is skipped")
        return features, missing

    def _finish(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Write the model, measure it as it stands there, write its card and curves."""
        plan, root = self.plan, self.folder.root
        output.save_model(self.network, root, self.source.classes, self.config, half=plan.half)
        figures = output.measure_model(root, self._measured(), replace(self.runtime, compile=False), self.workers, self.at_once)
        lines = {name: found.line() for name, found in figures.items()}
        _, height, width = self.config["input_size"]
        base = _base(plan)
        facts |= {"base": base, "parameters": sum(p.numel() for p in self.network.parameters()), "size": f"{height} x {width}"}
        facts |= {"weights_dtype": "fp16" if plan.half else "fp32", "dtype": self.started.dtype_name, "figures": lines}
        facts |= {"command": self._command(), "seed": plan.seed, "data": self.source.describe()}
        facts |= {"device": output.device_name(self.started.device), "curves": not plan.linear_probe, "licence": _licence(plan)}
        if not plan.linear_probe:
            output.write_curves(root, self.folder.metrics, f"{plan.from_scratch or plan.model} on {plan.data}")
        output.write_card(root, facts)
        return {"output": str(root), "step": facts["step"], "seconds": round(facts["seconds"], 1), "figures": lines}

    def _command(self) -> str:
        dtype = "" if self.runtime.dtype == "auto" else f" --dtype {self.runtime.dtype}"
        return self.plan.command(str(self.folder.root)) + dtype


def config_of(network: nn.Module, source: Source) -> DataConfig:
    """How pictures of a data set are prepared for a network."""
    return {**data_config(network), **({"crop_pct": source.crop_pct} if source.crop_pct else {})}


def _base(plan: Plan) -> str:
    """What was trained, for the card."""
    if plan.from_scratch:
        return f"`{plan.from_scratch}` trained from scratch"
    return f"`{plan.model}` {'trained on' if plan.same_classes else 'with a new head'}"


def _licence(plan: Plan) -> str:
    """The hub's identifier of the licence of what was trained on; ``other`` where only its maker can say."""
    entry = catalog.find(plan.model, "classify") if plan.model else None
    return entry.licence.lower() if entry else "other"


def _method(plan: Plan, planned: Schedule) -> str:
    optimiser = "AdamW" if plan.adamw else "SGD with momentum 0.9, zero-initialised head"
    extras = [f"weight decay {planned.weight_decay:g}", f"gradients clipped at norm {planned.clip:g}", f"augmentation {plan.augment}"]
    extras += [f"label smoothing {plan.label_smoothing:g}"] if plan.label_smoothing else []
    extras += [f"mixup {plan.mixup:g}"] if plan.mixup else []
    extras += [_teaching(plan)] if plan.teacher else []
    extras += [_dropping(plan)] if plan.patch_drop else []
    extras += [f"moving average of the weights {plan.ema:g}"] if plan.ema else []
    rate = f"learning rate {planned.lr:g} with {planned.warmup} steps of linear warm-up, then half a cosine to 0"
    return f"{optimiser}; {planned.steps} steps of {planned.batch} images; {rate}; {', '.join(extras)}."


def _teaching(plan: Plan) -> str:
    trained = f", trained first for {plan.teacher_steps} steps" if plan.teacher_steps else ""
    return f"taught by the answers and features of `{plan.teacher}`{trained}"


def _dropping(plan: Plan) -> str:
    until = "" if plan.whole_after is None else f" in the first {plan.whole_after} steps"
    return f"{plan.patch_drop:g} of the patches left out{until}"
