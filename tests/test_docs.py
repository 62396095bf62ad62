"""The documents tell the truth: their commands run, their help is the program's, their figures have a source."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import Run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_commands_page_is_the_programs_own_help() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_command_docs.py"))
    assert (ROOT / "docs" / "commands.md").read_text("utf-8") == script["render"](), "run: python scripts/make_command_docs.py"


def test_the_overview_says_of_each_command_what_its_own_help_begins_with(run: Run) -> None:
    shown = run("--help").stdout.decode().split("Commands:\n")[1]
    overview = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in shown.splitlines())
    assert set(overview) >= {"classify", "segment", "generate", "replay", "inspect", "train", "eval", "tiny", "models", "doctor", "schema"}
    for command, line in overview.items():
        assert run(command, "--help").stdout.decode().splitlines()[2].strip() == line


def test_every_command_of_the_readme_exists_with_its_options(run: Run) -> None:
    lines = [line.split("#")[0] for line in README.splitlines() if line.startswith("    ")]
    calls = [part.split("visiontk ", 1)[1] for line in lines for part in line.split(" | ") if re.match(r"\s*visiontk ", part)]
    assert len(calls) >= 6
    for words in map(shlex.split, calls):
        group = words[:2] if words[0] in ("train", "models", "tiny", "eval") else words[:1]
        shown = run(*group, "--help").stdout.decode()
        for option in (word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), f"{option} of: visiontk {' '.join(words)}"


def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    code = re.search(r"## Python\n\n((?:    .*\n|\n)+)", README)
    assert code is not None
    lines = [line[4:] for line in code[1].splitlines()]
    exec("\n".join(lines), {})
    promised = next(line for line in lines if line.startswith("# Label"))
    assert capsys.readouterr().out.strip()[:60] == promised[2:62]


def test_the_python_of_the_tiny_world_draws_the_pictures_of_its_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tiny-world.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (tmp_path / "docs" / "images").mkdir(parents=True)  # tests stand in tmp_path
    exec(code[1], {})
    drawn = sorted((tmp_path / "docs" / "images").iterdir())
    assert [path.name for path in drawn] == ["tiny-clip.png", "tiny-images.png", "tiny-sprites.png"]
    for path in drawn:
        assert f"(images/{path.name})" in page
        with Image.open(path) as new, Image.open(ROOT / "docs" / "images" / path.name) as old:
            pixels, wanted = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (new, old))
        assert pixels.shape == wanted.shape
        off = np.abs(pixels - wanted)
        # The last bit of a float may hang on the processor, and with it the rounding of a pixel or the edge of a mask.
        assert off.mean() < 0.05 and (off > 2).mean() < 0.001, path.name


@pytest.mark.skipif(shutil.which("jq") is None, reason="the examples are written with jq, which is not installed")
def test_the_example_scripts_run(tmp_path: Path) -> None:
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": bin_folder + os.pathsep + os.environ["PATH"], "VISIONTK_MODEL_CLASSIFY": "efficientnet-lite0"}
    environment |= {"VISIONTK_MODEL_SEGMENT": "tiny-sam2", "VISIONTK_MODEL_GENERATE": "tiny-diffusion"}

    def shell(script: str, *arguments: str) -> list[list[str]]:
        command = [str(ROOT / "examples" / script), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        return [line.split("\t") for line in done.stdout.splitlines()]

    labels = {Path(path).name: label for path, label, _ in shell("classify-to-tsv.sh")}
    assert labels == {
        "camera.png": "tripod",
        "chelsea.png": "tiger cat",
        "coffee.jpg": "espresso",
        "helmet.jpg": "football helmet",
        "rocket.jpg": "missile",
    }
    assert [line[3] for line in shell("compare-models.sh")] == ["true"] * 5
    assert [moment for moment, _ in shell("video-timeline.sh")] == ["0 s", "1 s", "2 s"]
    drawn = shell("generate-and-look.sh", "a red apple on a blue background")
    assert drawn == [["a red apple on a blue background", "apple"]]
    assert (tmp_path / "drawn" / "a-red-apple-on-a-blue-background-0.png").is_file()
    [[overlay, score]] = shell("segment-video.sh")
    assert (tmp_path / overlay).stat().st_size > 1000 and float(score) > 0.3
    shell("sort-into-folders.sh", str(ROOT / "examples" / "photos"), "sorted")
    assert sorted(str(path.relative_to(tmp_path / "sorted")) for path in (tmp_path / "sorted").rglob("*.*")) == [
        "espresso/coffee.jpg",
        "football helmet/helmet.jpg",
        "tiger cat/chelsea.png",
        "tripod/camera.png",
    ]


def test_the_documents_name_only_files_that_are_there() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / link).exists(), f"{document.name} points at {link}"
