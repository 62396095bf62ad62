"""Leaving out patches: a vision transformer that sees half of a picture takes half the time for it (Liu et al. 2022, arXiv 2208.07220)."""

from __future__ import annotations

from torch import nn

from visiontk.errors import UsageError

from .plan import Plan


class PatchDropping:
    """Leaves out ``plan.patch_drop`` of the patches, others for each picture, in the first ``plan.whole_after`` steps, or in all.

    What is measured and written sees all of them. Raises UsageError for a network that is not timm's ``VisionTransformer``.
    """

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        from timm.layers import PatchDropout
        from timm.models.vision_transformer import VisionTransformer

        self._plan, self._layer = plan, PatchDropout(0.0)
        if not plan.patch_drop:
            return
        if not isinstance(network, VisionTransformer):
            raise UsageError(f"--patch-drop is for plain vision transformers, and this is a {type(network).__name__}; leave it out")
        self._layer.num_prefix_tokens = network.num_prefix_tokens
        network.patch_drop = self._layer

    def begin(self, step: int) -> None:
        """Before the step, counted from 0."""
        last = self._plan.whole_after
        self._layer.prob = self._plan.patch_drop if last is None or step < last else 0.0
