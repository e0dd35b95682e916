"""A matrix: which recipes it makes, what they are called, and how its mistakes are told."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from hubq.errors import UserError
from hubq.stages.recipe.matrix import Matrix, is_matrix, read_matrix
from hubq.stages.recipe.recipe import read
from hubq.stages.recipe.schema import schema

REST = """\
model: a/Llama-1B
calibration: {dataset: wikitext2}
publish: {org: me}
"""


def written(folder: Path, text: str, rest: str = REST) -> Path:
    path = folder / "mine.yaml"
    path.write_text(rest + text)
    return path


def made(folder: Path, text: str, rest: str = REST) -> Matrix:
    path = written(folder, text, rest)
    jsonschema.validate(yaml.safe_load(path.read_text()), schema())
    return read_matrix(path)


def names(matrix: Matrix) -> list[str]:
    return [each.recipe.name for each in matrix.members]


def mistakes(folder: Path, text: str, rest: str = REST) -> list[str]:
    with pytest.raises(UserError) as caught:
        read_matrix(written(folder, text, rest))
    return str(caught.value).splitlines()[1:]


def test_a_plain_recipe_is_a_matrix_of_one(tmp_path: Path) -> None:
    path = written(tmp_path, "method: awq\n")

    matrix = read_matrix(path)

    assert [each.recipe for each in matrix.members] == [read(path)]
    assert not is_matrix(path)


def test_every_method_is_made_with_each_of_its_bits_and_in_every_format(tmp_path: Path) -> None:
    matrix = made(
        tmp_path,
        "matrix:\n"
        "  method: [{name: gptq, bits: [4, 3]}, {name: rtn, bits: 4}]\n"
        "  format: [compressed-tensors, hubq]\n",
    )

    assert names(matrix) == [
        "mine-gptq_4bit",
        "mine-gptq_4bit-hubq",
        "mine-gptq_3bit",
        "mine-gptq_3bit-hubq",
        "mine-rtn_4bit",
        "mine-rtn_4bit-hubq",
    ]
    assert [each.recipe.format for each in matrix.members[:2]] == ["compressed-tensors", "hubq"]
    assert [each.apart for each in matrix.members[:2]] == ["", "hubq"]


def test_a_member_is_what_a_file_of_its_own_would_say(tmp_path: Path) -> None:
    (member,) = made(tmp_path, "matrix: {method: {name: gptq, bits: [3]}}\n").members

    alone = read(written(tmp_path, "method: {name: gptq, bits: 3}\n"))

    assert member.recipe.model_copy(update={"name": "mine"}) == alone


def test_calibration_data_is_left_out_where_a_method_has_no_use_for_it(tmp_path: Path) -> None:
    matrix = made(tmp_path, "matrix: {method: [rtn, awq]}\n")

    calibrated = {each.recipe.method_name: bool(each.recipe.calibration) for each in matrix.members}
    assert calibrated == {"rtn": False, "awq": True}


def test_models_are_named_where_there_are_several(tmp_path: Path) -> None:
    rest = REST.replace("model: a/Llama-1B\n", "")

    matrix = made(tmp_path, "matrix: {model: [a/Llama-1B, ./m.gguf], method: rtn}\n", rest)

    assert names(matrix) == ["mine-Llama-1B-rtn_4bit", "mine-m-rtn_4bit"]
    assert matrix.members[1].recipe.model.gguf == tmp_path / "m.gguf"


def test_recipes_of_one_method_and_width_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    method = "{name: gptq, bits: 4, group_size: [128, 64], symmetric: [false, true]}"

    matrix = made(tmp_path, f"matrix: {{method: {method}}}\n")

    assert names(matrix) == [
        "mine-gptq_4bit",
        "mine-gptq_4bit-symmetric_True",
        "mine-gptq_4bit-group_size_64",
        "mine-gptq_4bit-group_size_64-symmetric_True",
    ]


def test_a_name_stays_when_alternatives_are_added_behind(tmp_path: Path) -> None:
    few = names(made(tmp_path, "matrix: {method: rtn, format: [hubq]}\n"))

    more = names(made(tmp_path, "matrix: {method: rtn, format: [hubq, awq]}\n"))

    assert more[: len(few)] == few


def test_what_is_equal_is_made_once(tmp_path: Path) -> None:
    assert len(made(tmp_path, "matrix: {method: [rtn, {name: rtn, bits: [4, 4]}]}\n").members) == 1


def test_several_matrices_stand_in_a_list(tmp_path: Path) -> None:
    matrix = made(
        tmp_path,
        "matrix:\n  - method: {name: gptq, bits: [4, 3]}\n"
        "  - {method: {name: quip, bits: 2}, format: hubq}\n",
    )

    assert names(matrix) == ["mine-gptq_4bit", "mine-gptq_3bit", "mine-quip_2bit"]
    assert matrix.members[2].recipe.format == "hubq"


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("{method: {name: gptq, bits: 3}}", ["gptq_4bit", "rtn_4bit", "rtn_3bit"]),
        ("{method: {bits: [3, 2]}}", ["gptq_4bit", "rtn_4bit"]),
        ("{method: rtn}", ["gptq_4bit", "gptq_3bit"]),
        ("{method: {name: [rtn, gptq], bits: 4}}", ["gptq_3bit", "rtn_3bit"]),
    ],
)
def test_what_is_excluded_is_not_made(tmp_path: Path, exclude: str, left: list[str]) -> None:
    methods = "[{name: gptq, bits: [4, 3]}, {name: rtn, bits: [4, 3]}]"

    matrix = made(tmp_path, f"matrix: {{method: {methods}, exclude: [{exclude}]}}\n")

    assert names(matrix) == [f"mine-{each}" for each in left]


def test_every_mistake_of_every_member_is_told_once_with_its_line(tmp_path: Path) -> None:
    told = mistakes(
        tmp_path,
        """\
matrix:
  method:
    - name: gptq
      bits:
        - 4
        - 5
    - {name: rtn, group: 64}
    - {name: quap}
  format: [hubq, gtpq]
  exclud: []
""",
    )

    assert told == [
        "  line 9   method.bits: must be 2, 3, 4 or 8; you wrote 5",
        "  line 10  method.group: no such option; did you mean group_size?",
        "  line 11  method.name: no method is called quap; did you mean quip?",
        "  line 12  format: no format is called gtpq; did you mean gptq?",
        "  line 13  matrix.exclud: no such option; did you mean exclude?",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("matrix: 4\n", "line 4  matrix: must be a mapping of sections"),
        ("matrix: {method: []}\n", "matrix.method: has no alternatives"),
        ("matrix: {method: rtn, exclude: rtn}\n", "matrix.exclude: must be a list of mappings"),
        ("matrix: {method: rtn, exclude: [{bits: 3}]}\n", "matrix.exclude.0: must be a mapping of"),
        ("matrix: {method: rtn, exclude: [{method: awq}]}\n", "exclude.0: excludes no recipe"),
        ("matrix: {method: rtn, exclude: [{method: rtn}]}\n", "line 4  matrix: makes no recipe"),
        ("matrix: {format: [hubq]}\n", "method: is missing"),
        (f"matrix: {{method: {{bits: {[4] * 30}, group_size: {[8] * 30}}}}}\n", "makes 900 recip"),
    ],
)
def test_a_matrix_that_makes_no_sense_says_why(tmp_path: Path, text: str, sentence: str) -> None:
    told = mistakes(tmp_path, text)

    assert any(sentence in each for each in told), told


@pytest.mark.parametrize(
    ("publish", "sentence"),
    [
        ("name: x", "line 3  publish.name: names one repo, and 2 recipes are made; remove it"),
        ("only: best", "line 3  publish.only: must be 'front'; you wrote best"),
    ],
)
def test_what_is_to_be_published_is_about_all(tmp_path: Path, publish: str, sentence: str) -> None:
    rest = REST.replace("org: me", f"org: me, {publish}")

    (told,) = mistakes(tmp_path, "matrix: {method: [rtn, awq]}\n", rest)

    assert sentence in told


def test_the_front_alone_may_be_published_of_a_matrix_and_of_nothing_else(tmp_path: Path) -> None:
    rest = REST.replace("org: me", "org: me, only: front")

    matrix = made(tmp_path, "matrix: {method: [rtn, awq]}\n", rest)

    assert matrix.only_front
    with pytest.raises(UserError, match=r"line 3  publish\.only: chooses among the recipes of a"):
        read(written(tmp_path, "method: rtn\n", rest))


def test_a_command_for_one_recipe_names_those_for_a_matrix(tmp_path: Path) -> None:
    path = written(tmp_path, "matrix: {method: [rtn, awq]}\n")

    with pytest.raises(UserError, match=r"makes several recipes .*\n.*hubq plan .*\n.*hubq sweep "):
        read(path)
