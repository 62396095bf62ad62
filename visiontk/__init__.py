"""One typed interface to four families of vision models.

>>> import visiontk
>>> classifier = visiontk.load("classify", "efficientnet-lite0")
>>> classifier.predict([image])[0].labels[0]
Label(label='tiger cat', index=282, score=0.4)

Importing this package imports neither torch nor numpy; loading a model does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .adapters.classify import Classifier, Tta
    from .adapters.generate import Generator, Task
    from .adapters.lvm import VisualSentenceModel
    from .adapters.segment import Segmenter
    from .loras import Lora
    from .runtime import Runtime
else:

    def __getattr__(name: str) -> object:
        """`Runtime` is imported when it is asked for: `visiontk --help` does without."""
        if name == "Runtime":
            from .runtime import Runtime

            return Runtime
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
__all__ = ["Runtime", "__version__", "load"]


@overload
def load(
    task: Literal["classify"],
    /,
    model: str | None = None,
    runtime: Runtime | None = None,
    *,
    architecture: str | None = None,
    labels: Path | None = None,
    tta: Tta | None = None,
) -> Classifier: ...
@overload
def load(task: Literal["segment"], /, model: str | None = None, runtime: Runtime | None = None) -> Segmenter: ...
@overload
def load(
    family: Literal["generate"],  # as that loader has an option of the name ``task``
    /,
    model: str | None = None,
    runtime: Runtime | None = None,
    *,
    loras: Sequence[Lora] = (),
    quantize: str | None = None,
    offload: str | None = None,
    task: Task = "text2image",
    safety: bool | None = True,
    variant: str | None = None,
) -> Generator: ...
@overload
def load(
    task: Literal["lvm"],
    /,
    model: str | None = None,
    runtime: Runtime | None = None,
    *,
    vqgan: str | None = None,
    quantize: str | None = None,
    random_weights: str | None = None,
) -> VisualSentenceModel: ...
def load(
    task: Literal["classify", "segment", "generate", "lvm"], /, model: str | None = None, runtime: Runtime | None = None, **options: Any
) -> Classifier | Segmenter | Generator | VisualSentenceModel:
    """Load a model for a task.

    Args:
        task: ``classify``, ``segment``, ``generate`` or ``lvm``.
        model: catalog name, name in the family's library, hub id, or local path; None for the recommended model, or the bundled one where
            that cannot be had (its ``warning`` says so).
        runtime: device, dtype and the like; the default chooses by itself.
        options: what the task's own loader takes; see `visiontk.adapters.classify.load`, `visiontk.adapters.generate.load` and
            `visiontk.adapters.lvm.load`. There are none for ``segment``.

    Raises:
        VisiontkError: of `visiontk.errors`, with a message that says what to do.
    """
    if task == "classify":
        from .adapters.classify import load as load_classifier

        return load_classifier(model, runtime, **options)
    if task == "segment":
        from .adapters.segment import load as load_segmenter

        return load_segmenter(model, runtime, **options)
    if task == "generate":
        from .adapters.generate import load as load_generator

        return load_generator(model, runtime, **options)
    if task == "lvm":
        from .adapters.lvm import load as load_lvm

        return load_lvm(model, runtime, **options)
    raise UsageError(f"there is no task {task!r}; use classify, segment, generate or lvm")
