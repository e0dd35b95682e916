"""What engines answered when they were given models that hubq had written: engines.json.

`make engines` writes it. It says for each engine which layouts it was tried with, by which version,
where and when, and whether its answers were those of transformers.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from hubq.machine.engines import ElementType
from hubq.records.record import Record

ENGINES = ("vLLM", "SGLang", "llama.cpp")  # transformers is what they are compared with
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Said = Annotated[str, StringConstraints(min_length=1, max_length=600)]
Measured = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Layout(Record):
    """How one kind of linears lies in a file: what decides which kernel an engine takes."""

    format: Name
    bits: Annotated[int, Field(ge=1, le=32)]
    element_type: ElementType = "int"
    group_size: Annotated[int, Field(ge=-1)] | None = None  # inputs a scale; -1: a whole row
    symmetric: bool | None = None
    activation_bits: Annotated[int, Field(ge=1, le=32)] | None = None  # of rounded inputs

    def __str__(self) -> str:
        kind = f"{self.bits} bits" if self.element_type == "int" else self.element_type.upper()
        parts = [f"{self.format}, {kind}"]
        if self.group_size is not None:
            whole = self.group_size == -1
            parts.append("whole rows" if whole else f"groups of {self.group_size}")
        if self.symmetric is not None:
            parts.append("symmetric" if self.symmetric else "asymmetric")
        if self.activation_bits is not None:
            parts.append(f"inputs of {self.activation_bits} bits")
        return ", ".join(parts)


class Numbers(Record):
    """How far an engine's answers are from those of transformers in float32."""

    distance: Measured  # root mean square of log-likelihoods' differences, in nats
    noise: Measured  # the same of transformers in the engine's dtype
    written: Annotated[int, Field(ge=1)]  # tokens, greedily
    equal: Annotated[int, Field(ge=0)]  # of them those that transformers finds likeliest too
    gap: Measured  # by how many nats another one was likelier, at most


class Attempt(Record):
    """One model that an engine was given."""

    layout: Layout
    model: Name
    dtype: Name
    outcome: Literal["right", "wrong", "refused"]
    said: Said | None = None  # what the engine says where it refuses
    numbers: Numbers | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Attempt":
        if (self.said is None) == (self.outcome == "refused"):
            raise ValueError("what an engine says goes with what it refuses")
        if (self.numbers is None) != (self.outcome == "refused"):
            raise ValueError("numbers go with answers")
        return self


class Engine(Record):
    """One engine: either it was not installed, or what it answered."""

    name: Literal["vLLM", "SGLang", "llama.cpp"]
    date: date
    version: Name | None = None
    device: Literal["CPU", "GPU"] | None = None
    machine: Name | None = None
    settings: Name | None = None  # that change its answers, and are not its defaults
    absent: Said | None = None  # why it could not be installed or started
    tests: tuple[Attempt, ...] = ()

    @model_validator(mode="after")
    def _ran_or_not(self) -> "Engine":
        ran = {each is not None for each in (self.version, self.device, self.machine)}
        if ran != {self.absent is None} or (self.absent is not None and self.tests):
            raise ValueError("an engine either is absent, or has a version, a device and a machine")
        return self


class EngineTests(Record):
    """All engines that were tried."""

    engines: tuple[Engine, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> "EngineTests":
        places = [(each.name, each.device) for each in self.engines]
        if len({*places}) != len(places):
            raise ValueError("an engine stands here twice")
        return self
