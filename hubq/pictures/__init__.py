"""Pictures for people who would rather look than read; each a PNG for light and for dark pages."""

from hubq.pictures.bits import quality_against_bits
from hubq.pictures.canvas import DARK, LIGHT, THEMES, Theme
from hubq.pictures.layers import error_by_layer
from hubq.pictures.likeness import alike
from hubq.pictures.tasks import recovery_by_task

__all__ = [
    "DARK",
    "LIGHT",
    "THEMES",
    "Theme",
    "alike",
    "error_by_layer",
    "quality_against_bits",
    "recovery_by_task",
]
