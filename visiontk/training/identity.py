"""Which run a folder of ``visiontk train classify`` is of."""

from __future__ import annotations

from dataclasses import asdict

from visiontk.runtime import Started

from .checkpoint import Folder
from .pictures import Source
from .plan import Plan


def claim(folder: Folder, plan: Plan, started: Started, source: Source, *, overwrite: bool, teacher: str | None = None) -> None:
    """Take the folder for the run that a plan, the data, the runtime and a teacher of that revision make. Raises as `Folder.claim`."""
    # --half changes what is written in the end and nothing of what is computed.
    asked = {name: value for name, value in asdict(plan).items() if name != "half"}
    asked |= {"dtype": started.dtype_name, "device": started.device.type}
    asked |= {"teacher_revision": teacher} if teacher else {}
    folder.claim({**asked, **source.describe()}, overwrite=overwrite)
