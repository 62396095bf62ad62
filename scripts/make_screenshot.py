"""Draw docs/images/terminal.svg: what `visiontk classify examples/photos` shows on a terminal.

usage: python scripts/make_screenshot.py
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).parent.parent
COMMAND = ["classify", "examples/photos", "--top-k", "3"]


def main() -> None:
    (entry,) = entry_points(group="console_scripts", name="visiontk")
    package = sys.modules[entry.load().__module__].__package__
    view = __import__(f"{package}.classify_view", fromlist=["view"]).view
    lines = subprocess.run(
        ["visiontk", *COMMAND, "--model", "efficientnet-lite0"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout.splitlines()
    console = Console(record=True, width=72, highlight=False, file=io.StringIO(), force_terminal=True)
    console.print(f"$ visiontk {' '.join(COMMAND)}\n", style="dim")
    for line in lines:
        console.print(view("classify", json.loads(line)))
    svg = console.export_svg(title="visiontk")
    # The fonts that Rich names live on a server; a reader's own monospaced font does.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    (ROOT / "docs/images/terminal.svg").write_text(svg)


if __name__ == "__main__":
    main()
