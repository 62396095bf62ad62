"""CPU seconds from nothing to the first answer."""

from __future__ import annotations

import sys
from statistics import median

from . import children, material
from .report import Table, doing, middle, ratios, spread, target

# timm's model cards' own example, with the weights of a file instead of the hub's, and the labels' names as `visiontk classify` gives them.
MINIMAL = """\
import sys

import timm
import torch
from PIL import Image
from safetensors.torch import load_file

model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
model.load_state_dict(load_file(sys.argv[1]))
model = model.eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)
with torch.inference_mode():
    output = model(transform(Image.open(sys.argv[2]).convert("RGB")).unsqueeze(0))
scores, indices = torch.topk(output.softmax(dim=1), k=5)
names = timm.data.ImageNetInfo()
for score, index in zip(scores[0].tolist(), indices[0].tolist()):
    print(names.index_to_description(index), score)
"""
# Exits with 0 where the help was shown and neither was imported.
LIGHT_HELP = """
import sys
from visiontk.commands.app import main
sys.exit(main(["--help"]) or int(bool({"torch", "numpy"} & set(sys.modules))))
"""


def table(rounds: int) -> Table:
    """The help, one image, and a minimal script for one image, by turns."""
    script = material.BENCH / "minimal.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(MINIMAL, "utf-8")
    photo = material.photos()[0]
    ways = {
        "`visiontk --help`": [children.VISIONTK, "--help"],
        f"`visiontk classify ONE.jpg --model {material.BUNDLED}`": [children.VISIONTK, "classify", photo, "--model", material.BUNDLED],
        "a minimal timm script": [sys.executable, str(script), str(material.BUNDLED_WEIGHTS), photo],
    }
    doing(f"start-up: {len(ways)} ways, {rounds} rounds")
    for command in ways.values():
        children.run(command)  # the files come from the disk this once
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            cpu[name].append(children.run(command).cpu_s)
    help_cpu, classify_cpu, minimal_cpu = cpu.values()
    against = ratios(classify_cpu, minimal_cpu)
    goals = [target(help_cpu, most=0.15), f"{median(against):.2f} x the minimal script; {target(against, most=1.15)}", ""]
    rows = [[name, middle(values, 2), spread(values, 2), goal] for (name, values), goal in zip(cpu.items(), goals, strict=True)]
    rows.append(["`visiontk --help` imports torch or numpy", "no" if _help_is_light() else "yes", "", "no"])
    note = f"User and system time of the process by `os.wait4`, {rounds} rounds by turns, medians of the rounds and of their ratios."
    return Table("Start-up", ["", "CPU seconds", "lowest to highest", "target"], rows, [note])


def _help_is_light() -> bool:
    try:
        children.run([sys.executable, "-c", LIGHT_HELP])
    except RuntimeError:
        return False
    return True
