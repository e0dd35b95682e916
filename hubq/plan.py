"""All pinned, all costs foretold: what a recipe will do, computed without reading a weight."""

from pathlib import Path
from typing import Any

from hubq.client import Client
from hubq.recipe import Recipe
from hubq.record import Record


class PlannedModule(Record):
    """One weight matrix: what becomes of it and what it will take on disk."""

    name: str
    shape: tuple[int, int]
    quantized: bool
    bits: float  # stored bits a weight
    bytes: int


class Plan(Record):
    """A recipe with everything pinned and counted. Two plans are equal when they do the same."""

    recipe: dict[str, Any]  # the recipe as validated, JSON values only
    source: str  # the identity of the weights: Hub id@commit, or sha256 of a file or folder index
    base_model: str | None  # Hub id of the base, where one is known
    license: str | None
    architecture: str
    dtype: str  # of the weights: bfloat16, float16 or float32
    modules: tuple[PlannedModule, ...]
    parameters: int
    base_bytes: int  # of the source's weights
    bytes: int  # of the result's weights on disk
    linear_bits: float  # bits a weight over the quantized linears
    model_bits: float  # bits a parameter over the whole file, embeddings included
    peak_memory: int  # bytes
    seconds: float  # a rough foretelling for this machine
    repo: str  # org/name that publish will create


def plan(recipe: Recipe, run: Path, client: Client) -> Plan:
    """Pin and count everything, save run/plan.json; raise UserError for what can't work."""
    raise NotImplementedError
