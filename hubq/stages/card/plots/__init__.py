"""Pictures for people who would rather look than read; each a PNG for light and for dark pages.

In come reports and the entries of a comparison, out go bytes, the same for the same values. It may
import what the card may, but not the card. matplotlib and Pillow are imported inside functions,
since a card whose pictures are drawn needs neither.
"""

from hubq.stages.card.plots.layer_errors import error_by_layer
from hubq.stages.card.plots.learning_curve import loss_by_step
from hubq.stages.card.plots.quality_vs_bits import quality_against_bits
from hubq.stages.card.plots.style import DARK, LIGHT, THEMES, Theme, alike
from hubq.stages.card.plots.task_recovery import recovery_by_task

__all__ = [
    "DARK",
    "LIGHT",
    "THEMES",
    "Theme",
    "alike",
    "error_by_layer",
    "loss_by_step",
    "quality_against_bits",
    "recovery_by_task",
]
