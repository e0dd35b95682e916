"""The vision-language models that hubq knows: which part of each reads text, and how it is named.

Only the language part is quantized. It is a decoder of a family that `architecture.py` knows, under
other names and beside what sees: a vision tower, and a projector into the decoder's embeddings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.machine.files import read_object


@dataclass(frozen=True)
class VisionFamily:
    """A family of models that read pictures and text, with the names of its parts."""

    title: str
    sees: tuple[str, ...] = ("vision_tower", "multi_modal_projector")  # modules that stay
    # Where the body of the language part (embeddings, blocks, norm) lies: in memory, as
    # transformers 5 loads it, and in files, of which the first that fits is meant.
    body: str = "model.language_model"
    stored_bodies: tuple[str, ...] = ("language_model.model", "model.language_model")
    stored_heads: tuple[str, ...] = ("language_model.lm_head", "lm_head")

    @property
    def unquantized(self) -> tuple[str, ...]:
        """The modules that stay, for lists of them: readers look for each within a module's name.

        transformers 5 looks at the beginning and the end of the name in memory alone.
        """
        first = self.body.partition(".")[0]
        return (*self.sees, *(f"{first}.{each}" for each in self.sees))


_QWEN = VisionFamily("Qwen2-VL", sees=("visual",), stored_bodies=("model.language_model", "model"))
_IDEFICS = VisionFamily(
    "Idefics3",
    sees=("vision_model", "connector"),
    body="model.text_model",
    stored_bodies=("model.text_model",),
)

VISION_FAMILIES: Mapping[str, VisionFamily] = {
    "LlavaForConditionalGeneration": VisionFamily("LLaVA"),  # and Pixtral
    "LlavaNextForConditionalGeneration": VisionFamily("LLaVA-NeXT"),
    "LlavaOnevisionForConditionalGeneration": VisionFamily("LLaVA-OneVision"),
    "Mistral3ForConditionalGeneration": VisionFamily("Mistral 3"),
    "Qwen2VLForConditionalGeneration": _QWEN,
    "Qwen2_5_VLForConditionalGeneration": replace(_QWEN, title="Qwen2.5-VL"),
    "Idefics3ForConditionalGeneration": _IDEFICS,
    "SmolVLMForConditionalGeneration": replace(_IDEFICS, title="SmolVLM"),
}

# Known, and refused with the reason.
REFUSED: Mapping[str, str] = {
    "MllamaForConditionalGeneration": (
        "its pictures reach the decoder through blocks of cross-attention, for which hubq has no "
        "calibration; quantize one that puts pictures among the tokens, such as LLaVA-NeXT"
    )
}


def vision_family_of(config: Mapping[str, Any]) -> VisionFamily | None:
    """Return the family of a model that sees, by its config.json; None: it reads text alone.

    Raises UserError for one that hubq knows and can't quantize.
    """
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if name in REFUSED:
        raise UserError(f"config.json says architecture {name}: {REFUSED[name]}")
    return VISION_FAMILIES.get(name)


def cannot_see(name: str) -> str:
    """Say why a picture can't be given to a model that reads text alone."""
    return f"{name} reads text alone: ask it without a picture, or ask a model that sees"


def sees(folder: Path) -> bool:
    """Tell whether a folder's model reads pictures too."""
    return vision_family_of(read_object(folder / "config.json")) is not None
