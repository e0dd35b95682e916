"""What the checks run on: real blocks of SmolLM2 where the bundle is, random ones of any shape."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from memory import CONFIG, make
from subject import heading
from wide import SHAPES, SMALL, write_tokenizer

from hubq.client.client import Client
from hubq.machine.device import best_device
from hubq.methods import method_class, methods
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.stages.plan.plan import plan
from hubq.stages.quantize import quantization
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

BUNDLE = Path(__file__).parents[2] / "build" / "gpu"
NOWHERE = Client(endpoint="http://127.0.0.1:9")
FORMATS = {
    **dict.fromkeys(("smoothquant", "fp8", "nvfp4", "mxfp4"), "compressed-tensors"),
    "bitsandbytes": "bitsandbytes",
}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
TINY = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
EPOCHS = 2  # of what is trained
LETTERS = "etaoin shrdlu"


class Subject(NamedTuple):
    """A model with a text that calibrates it."""

    folder: Path
    text: Path
    samples: int  # windows
    length: int  # tokens of each
    group_size: int

    @property
    def tokens(self) -> int:
        """Those of all windows."""
        return self.samples * self.length

    @property
    def config(self) -> dict[str, Any]:
        """The model's."""
        found: dict[str, Any] = json.loads((self.folder / "config.json").read_bytes())
        return found

    def recipe(self, method: str) -> Recipe:
        """Return the recipe that quantizes the model."""
        return Recipe.model_validate(
            {
                "name": "gpu",
                "model": {"folder": self.folder},
                "method": {"name": method} | self.options(method),
                "format": FORMATS.get(method, "hubq"),
                "calibration": {
                    "dataset": {"file": self.text},
                    "samples": self.samples,
                    "length": self.length,
                }
                if method_class(method).needs
                else None,
                "publish": {"org": "nobody"},
            }
        )

    def options(self, method: str) -> dict[str, int]:
        """Return the method's options that are not left at their defaults."""
        wanted = {"group_size": self.group_size, "epochs": EPOCHS}
        return {key: each for key, each in wanted.items()
                if key in method_class(method).model_fields}  # fmt: skip

    def planned(self, method: str, run: Path) -> Plan:
        """Plan a run in a folder."""
        run.mkdir(parents=True, exist_ok=True)
        return plan(self.recipe(method), run, NOWHERE)

    def quantized(self, method: str, run: Path) -> Checkpoint:
        """Quantize the model on this machine's best device."""
        return quantize(self.planned(method, run), run, NOWHERE)


@dataclass(frozen=True)
class Setting:
    """The device to check, how large, and a folder that all checks share."""

    device: torch.device
    small: bool
    folder: Path

    @classmethod
    def here(cls, folder: Path) -> "Setting":
        """Return what this machine can do."""
        device = best_device()
        return cls(device, device.type == "cpu", folder)

    def real(self) -> Subject:
        """Return four blocks of SmolLM2 where they were brought along, else tiny random ones."""
        folder = BUNDLE / "model"
        if self.small or not folder.is_dir():
            return self.random("tiny", CONFIG | SMALL | TINY | HEADS, (8, 64), 32)
        return Subject(folder, BUNDLE / "text.txt", 4, 512, 64)

    def wide(self, size: str, blocks: int) -> Subject:
        """Return random blocks of LLaMA3-8B's or 70B's widths, and 128 windows of 2048 tokens."""
        if self.small:
            return self.real()
        config = CONFIG | SMALL | SHAPES[size] | {"num_hidden_layers": blocks}
        return self.random(f"{size}-{blocks}", config, (128, 2048), 128)

    def random(
        self, name: str, config: dict[str, Any], windows: tuple[int, int], group_size: int
    ) -> Subject:
        """Make a random model at its first use, with a text that fills so many windows."""
        folder, text = self.folder / name, self.folder / f"{name}.txt"
        if not folder.exists():
            made = self.folder / f"{name}.made"
            make(made, config)
            write_tokenizer(made)
            letters = Random(0).choices(LETTERS, k=windows[0] * windows[1])
            text.write_text("".join(letters))
            made.rename(folder)
        return Subject(folder, text, *windows, group_size)


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """Let `quantize` in this process run on another than the best device."""
    with patch.object(quantization, "best_device", lambda: device):
        yield


def runnable() -> tuple[list[str], list[str]]:
    """Return the methods that this machine can run, and those whose library it lacks."""
    lacking = [] if find_spec("bitsandbytes") else ["bitsandbytes"]
    return [name for name in methods() if name not in lacking], lacking


def machine() -> str:
    """Say where and when the checks ran."""
    small = best_device().type == "cpu"
    real = "SmolLM2's blocks" if (BUNDLE / "model").is_dir() else "random blocks"
    brought = "tiny random blocks" if small else f"{real}, and random ones of LLaMA3's widths"
    return heading(f"make gpu, {brought}, torch {torch.__version__}")
