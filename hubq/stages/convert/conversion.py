"""The records of a conversion, and the README of the folder that it makes.

Numbers of the source's card stay there and are called what they are: measured on the source. Its
metadata goes along but for results, which the Hub would show as this model's.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubq import __version__
from hubq.records.record import Record
from hubq.sources.base_card import card_in, license_of, with_front_matter

TARGETS = ("awq", "compressed-tensors", "dense", "gptq", "hubq")
RECORD = "hubq/conversion.json"  # in the folder; that it is there makes the folder replaceable
RESULTS = ("model-index", "eval_results", "metrics")
FORMATS = (
    "awq",
    "compressed-tensors",
    "gptq",
    "hubq",
    "dense",
    "autoawq",
    "auto-gptq",
    "gptqmodel",
)


class ConvertedModule(Record):
    """What became of one quantized module."""

    name: str
    done: str  # kept, or what was changed
    same: bool  # both sides dequantize to the same numbers
    difference: float  # ||new - old|| / ||old|| of the dequantized weights


class Conversion(Record):
    """The finished folder, and the proof of what is in it."""

    source: str  # a repo, or the folder's name
    source_format: str
    format: str
    modules: tuple[ConvertedModule, ...]
    facts: tuple[str, ...]  # what else is not as in the source, a sentence each

    @property
    def changed(self) -> tuple[ConvertedModule, ...]:
        """The modules that dequantize to other numbers, those that differ the most first."""
        changed = [module for module in self.modules if not module.same]
        return tuple(sorted(changed, key=lambda module: -module.difference))


@dataclass(frozen=True)
class ConversionRequest:
    """What to make of a folder, and what is allowed for that."""

    form: str
    source: str  # how to call the source
    lossy: bool = False
    fresh: bool = False  # replace a folder that an earlier conversion made


def license_in(folder: Path) -> str | None:
    """Return the license that a folder's card names."""
    return license_of(card_in(folder)[0])


def rendered(conversion: Conversion, name: str, folder: Path) -> bytes:
    """Return the README of the converted folder `name`; `folder` is the source's."""
    metadata, text = card_in(folder)
    parts = [f"\n# {name}\n", _told(conversion)]
    if text.strip():
        parts += ["## The card of the source\n", _about(conversion), "***\n", text.strip() + "\n"]
    return with_front_matter(_metadata(metadata, conversion), "\n".join(parts)).encode()


def _metadata(metadata: dict[str, Any], conversion: Conversion) -> dict[str, Any]:
    """Return the metadata of the copy: no results, and the right format's tag."""
    kept = {key: value for key, value in metadata.items() if key not in RESULTS}
    tags = kept.get("tags")
    others = [tag for tag in tags if tag not in FORMATS] if isinstance(tags, list) else []
    kept["tags"] = [*others, conversion.format]
    if "/" in conversion.source:
        kept.setdefault("base_model", conversion.source.partition("@")[0])
    return kept


def _told(conversion: Conversion) -> str:
    """Say what was converted and what is proven of it."""
    dense = conversion.format == "dense"
    what = "its weights written out in 16 bits" if dense else f"in the `{conversion.format}` format"
    lines = [
        f"This is {conversion.source} ({conversion.source_format}), {what} by hubq {__version__}.",
        "",
        f"- {proof(conversion)}",
    ]
    lines += [f"- {fact}" for fact in conversion.facts]
    lines += ["- The figures of each module are in `hubq/conversion.json`.", ""]
    return "\n".join(lines)


def proof(conversion: Conversion) -> str:
    """Say what the written file, read back, showed."""
    count, changed = len(conversion.modules), conversion.changed
    if not changed:
        return (
            f"All {count} quantized modules have the integers, scales and zeros of the source: "
            "read back from this file they dequantize to the same numbers."
        )
    done = Counter(module.done for module in changed)
    ways = "; ".join(f"{number} {what}" for what, number in done.most_common())
    if len(changed) == count and len(done) == 1:
        return f"All {count} quantized modules are {changed[0].done}. {largest(changed[0])}"
    same = f"{count - len(changed)} of {count} quantized modules dequantize to the same numbers"
    return f"{same}, read back from this file. The others: {ways}. {largest(changed[0])}"


def largest(module: ConvertedModule) -> str:
    """Say how far the module that changed the most is from the source's."""
    return (
        f"The largest relative difference, ||new - old|| / ||old||, is {module.difference:.2g} "
        f"({module.name})."
    )


def _about(conversion: Conversion) -> str:
    """Say whose the card below is."""
    same = "" if conversion.changed else ", which has the same integers"
    return (
        f"The text below was written about {conversion.source} in the {conversion.source_format} "
        f"format. Its figures were measured there{same}; they were not measured again here. "
        "Loading may work differently.\n"
    )
