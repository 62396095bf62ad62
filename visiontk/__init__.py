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
from .runtime import Runtime

if TYPE_CHECKING:
    from .adapters.classify import Classifier
    from .adapters.segment import Segmenter

__version__ = "0.1.0"
__all__ = ["Runtime", "__version__", "load"]


@overload
def load(task: Literal["classify"], model: str | None = None, runtime: Runtime | None = None, **options: Any) -> Classifier: ...
@overload
def load(task: Literal["segment"], model: str | None = None, runtime: Runtime | None = None) -> Segmenter: ...
def load(
    task: Literal["classify", "segment"], model: str | None = None, runtime: Runtime | None = None, **options: Any
) -> Classifier | Segmenter:
    """Load a model for a task.

    Args:
        task: ``classify`` or ``segment``.
        model: catalog name, name in the family's library, hub id, or local path; None for the recommended model, or the bundled one where
            that cannot be had (its ``warning`` says so).
        runtime: device, dtype and the like; the default chooses by itself.
        options: what the task's own loader takes; see `visiontk.adapters.classify.load`. There are none for ``segment``.

    Raises:
        VisiontkError: of `visiontk.errors`, with a message that says what to do.
    """
    if task == "classify":
        from .adapters.classify import load as load_classifier

        return load_classifier(model, runtime, **options)
    if task == "segment":
        from .adapters.segment import load as load_segmenter

        return load_segmenter(model, runtime, **options)
    raise UsageError(f"there is no task {task!r}; use classify or segment")
