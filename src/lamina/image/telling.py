"""What an image's own history says of its layers: the same bytes may come from another instruction elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamina.image.model import Image, LayerFacts
from lamina.spec.config import History


def told(image: Image, chain: Sequence[LayerFacts]) -> tuple[LayerFacts, ...]:
    """The facts of its layers in the image's words, base first.

    What is noted of a layer is what made it here first, and knows the Dockerfile's text, which a history does not. An image
    whose history says something else of the layer got it otherwise: `ADD` instead of `COPY`, or from elsewhere.
    """
    steps = [step for step in image.config.history if not step.empty_layer]
    return (*(_told(facts, step) for facts, step in zip(chain, steps, strict=False)), *chain[len(steps) :])


def _told(facts: LayerFacts, step: History) -> LayerFacts:
    noted = {facts.created_by, facts.instruction} - {""}
    if not (step.created_by or step.comment) or (step.created_by or step.comment) in noted:
        return facts
    comment = "" if step.created_by else step.comment
    return replace(facts, created=step.created or facts.created, created_by=step.created_by, instruction=comment)
