"""What a conversion is asked for, and the record of what became of each module."""

from dataclasses import dataclass

from hubq.records.record import Record

TARGETS = ("awq", "compressed-tensors", "dense", "gptq", "hubq")
RECORD = "hubq/conversion.json"  # in the folder; that it is there makes the folder replaceable


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
