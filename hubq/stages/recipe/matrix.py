"""A matrix: one file whose lists make several recipes, each named and checked like any other.

A section `matrix` holds sections of a recipe with alternatives for them; all combinations are made,
but those under `exclude`. In a method or an adapter an option may be a list too. Several matrices
stand in a list, for what doesn't go with everything else; the recipes of all are the file's. A
section of a matrix replaces that of the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from hubq.errors import did_you_mean
from hubq.records.yaml_lines import MarkedYaml, Place
from hubq.stages.recipe.members import Member, named
from hubq.stages.recipe.recipe import MATRIX, Written, checked, opened, read
from hubq.stages.recipe.validation_errors import Mistake, refuse

AXES = ("model", "method", "format", "embeddings", "calibration", "adapt")
OPTIONS_TOO = ("method", "adapt")  # sections whose options may be lists
EXCLUDE = "exclude"
FRONT = "front"  # publish.only
MOST = 500  # recipes of one file
NAMES = ("name", "adapted_name", "quantized")  # what of `publish` is about one repo


class Matrix(NamedTuple):
    """All that a file makes; a plain recipe is a matrix of one."""

    name: str  # the file's stem
    members: tuple[Member, ...]
    only_front: bool = False  # whether what another one clearly beats stays unpublished


@dataclass
class MovedYaml(MarkedYaml):
    """A member's sections, whose lines are those of where they stand in the matrix."""

    original: MarkedYaml = field(default_factory=MarkedYaml)
    moved: dict[Place, Place] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """Return the line of a place of the member, or of the nearest place around it."""
        for length in range(len(place), 0, -1):
            if target := self.moved.get(place[:length]):
                return self.original.line((*target, *place[length:]))
        return self.original.line(place)


class Choice(NamedTuple):
    """One alternative for a section, and where it and its options stand."""

    value: Any
    moved: dict[Place, Place]


def is_matrix(path: Path) -> bool:
    """Tell whether a file makes several recipes; raise UserError where it is none at all."""
    return MATRIX in opened(path).values


def read_matrix(path: Path) -> Matrix:
    """Read all recipes of a file; raise UserError that lists each mistake of each, with its line.

    Calibration data that a member's method has no use for is left out of it, and recipes that are
    equal are made once.
    """
    file = opened(path)
    if MATRIX not in file.values:
        return Matrix(path.stem, (Member(read(path)),))
    only_front = _taken_only(file)
    chosen = _chosen(file)
    made = [each for each in (_member(file, one) for one in chosen) if each is not None]
    if not chosen and not file.mistakes:
        place = file.marked.line((MATRIX,))
        file.mistakes.append((place, "matrix: makes no recipe: all are excluded"))
    if len(made) > 1:
        file.mistakes.extend(_names_of_one(file, len(made)))
    if file.mistakes:
        raise refuse(str(path), file.mistakes)
    members = named(path.stem, made, with_model=_varies(file, "model"))
    return Matrix(path.stem, tuple(members), only_front)


def _taken_only(file: Written) -> bool:
    """Take `publish.only` out of a file, and tell whether it asks for the front alone."""
    publish = file.values.get("publish")
    if not isinstance(publish, dict) or "only" not in publish:
        return False
    only = publish["only"]
    file.values["publish"] = {key: each for key, each in publish.items() if key != "only"}
    if only != FRONT:
        line = file.marked.line(("publish", "only"))
        file.mistakes.append((line, f"publish.only: must be 'front'; you wrote {only}"))
    return True


def _names_of_one(file: Written, number: int) -> Iterator[Mistake]:
    """Note what of `publish` names one repo."""
    publish = file.values.get("publish")
    for key in NAMES:
        if isinstance(publish, dict) and publish.get(key) is not None:
            line = file.marked.line(("publish", key))
            yield line, f"publish.{key}: names one repo, and {number} recipes are made; remove it"


def _varies(file: Written, axis: str) -> bool:
    """Tell whether a matrix has alternatives for a section."""
    written = file.values[MATRIX]
    blocks = written if isinstance(written, list) else [written]
    return any(isinstance(each, dict) and axis in each for each in blocks)


def _chosen(file: Written) -> list[dict[str, Choice]]:
    """Return the sections of each member."""
    written = file.values[MATRIX]
    blocks = (
        [(each, (MATRIX, number)) for number, each in enumerate(written)]
        if isinstance(written, list)
        else [(written, (MATRIX,))]
    )
    found: list[dict[str, Choice]] = []
    for block, place in blocks:
        if isinstance(block, dict) and block:
            found += _of_block(block, place, file)
        else:
            sentence = "must be a mapping of sections with alternatives: method, format, ..."
            file.mistakes.append((file.marked.line(place), f"{_dotted(place)}: {sentence}"))
    return found


def _of_block(block: Mapping[str, Any], place: Place, file: Written) -> list[dict[str, Choice]]:
    """Return the sections of each member of one matrix."""
    axes: dict[str, list[Choice]] = {}
    for key, value in block.items():
        if key in AXES:
            axes[key] = list(_alternatives(key, value, (*place, key)))
            if not axes[key]:
                _note(file, (*place, key), "has no alternatives; write some, or remove it")
        elif key != EXCLUDE:
            _note(file, (*place, key), f"no such option; {did_you_mean(key, (*AXES, EXCLUDE))}")
    if (number := prod(map(len, axes.values()))) > MOST:
        _note(file, place, f"makes {number:,} recipes; make {MOST} at most")
        return []
    made = [dict(zip(axes, each, strict=True)) for each in product(*axes.values())]
    return _without(made, block.get(EXCLUDE), (*place, EXCLUDE), file)


def _alternatives(key: str, value: object, place: Place) -> Iterator[Choice]:
    """Yield what may stand for a section, with each combination of its options."""
    several = isinstance(value, list)
    for number, each in enumerate(value if isinstance(value, list) else [value]):
        where = (*place, number) if several else place
        if key not in OPTIONS_TOO or not isinstance(each, dict):
            yield Choice(each, {(key,): where})
            continue
        lists = {option: held for option, held in each.items() if isinstance(held, list)}
        for numbers in product(*(range(len(held)) for held in lists.values())):
            at = dict(zip(lists, numbers, strict=True))
            values = each | {option: lists[option][index] for option, index in at.items()}
            moved: dict[Place, Place] = {(key,): where}
            for option, index in at.items():
                moved[key, option] = (*where, option, index)
            yield Choice(values, moved)


def _without(
    made: Sequence[dict[str, Choice]], excluded: object, place: Place, file: Written
) -> list[dict[str, Choice]]:
    """Leave out what is excluded; note what excludes nothing."""
    if excluded is None:
        return list(made)
    if not isinstance(excluded, list):
        _note(file, place, "must be a list of mappings, such as {format: gptq}")
        return list(made)
    gone: set[int] = set()
    for number, each in enumerate(excluded):
        if not isinstance(each, dict) or not each or not each.keys() <= set(AXES):
            _note(file, (*place, number), f"must be a mapping of some of {', '.join(AXES)}")
            continue
        found = {index for index, member in enumerate(made) if _is_like(member, each)}
        if not found:
            _note(file, (*place, number), "excludes no recipe of this matrix; remove or correct it")
        gone |= found
    return [each for index, each in enumerate(made) if index not in gone]


def _is_like(member: Mapping[str, Choice], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a member has all sections that an exclusion names, as far as it names them."""
    return all(
        key in member and _fits(_in_full(member[key].value), _in_full(value))
        for key, value in wanted.items()
    )


def _in_full(value: object) -> object:
    """Spell a word as the name of a section would be, so that both are alike."""
    return {"name": value} if isinstance(value, str) else value


def _fits(value: object, wanted: object) -> bool:
    if isinstance(wanted, list):
        return any(_fits(value, _in_full(each)) for each in wanted) or value in wanted
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            key in value and _fits(value[key], each) for key, each in wanted.items()
        )
    return value == wanted


def _member(file: Written, chosen: Mapping[str, Choice]) -> Member | None:
    """Check one member's recipe; None where it has mistakes, which are noted."""
    rest = {key: each for key, each in file.values.items() if key != MATRIX}
    values = rest | {key: each.value for key, each in chosen.items()}
    moved = {place: target for each in chosen.values() for place, target in each.moved.items()}
    marked = MovedYaml(original=file.marked, moved=moved)
    recipe = checked("member", Written(values, marked, file.mistakes, file.folder))
    if recipe is None:
        return None
    if not recipe.reads_text and recipe.adapt is None:
        recipe = recipe.model_copy(update={"calibration": None})
    return Member(recipe, line=marked.line(("method",)))


def _note(file: Written, place: Place, sentence: str) -> None:
    file.mistakes.append((file.marked.line(place), f"{_dotted(place)}: {sentence}"))


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))
