"""A recipe: what it may say, and how it is refused."""

import os
import re
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from hubq.errors import UserError
from hubq.methods import method_class, methods
from hubq.stages.recipe.recipe import Recipe, read
from hubq.stages.recipe.schema import schema

SMALLEST = """\
# for tests
model: meta-llama/Meta-Llama-3-8B@main
method:
  name: rtn
  bits: 4
publish:
  org: me
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    """Return the lines below the error's title."""
    with pytest.raises(UserError) as caught:
        read(written(folder, text))
    return str(caught.value).splitlines()[1:]


def test_the_files_name_names_the_recipe(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, SMALLEST))

    assert recipe.name == "mine"


@pytest.mark.parametrize("name", ["...yaml", "..yaml", ".yaml", "a\nb.yaml", b"\xff.yaml"])
def test_a_file_whose_name_names_no_run_folder_is_refused(
    tmp_path: Path, name: str | bytes
) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_text(SMALLEST)

    with pytest.raises(UserError, match=r"can't be a recipe: .* Rename it"):
        read(path)


def test_a_method_may_be_its_name_alone(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, "model: a/b\nmethod: awq\npublish: {org: me}"))

    assert recipe.method_name == "awq"


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("meta-llama/Meta-Llama-3-8B@main", "hub", "meta-llama/Meta-Llama-3-8B@main"),
        ("./model", "folder", "FOLDER/model"),
        ("../model", "folder", "PARENT/model"),
        ("model", "hub", None),
        ("x.gguf", "gguf", "FOLDER/x.gguf"),
        ("/models/x.gguf", "gguf", "/models/x.gguf"),
        ("{hub: a/b}", "hub", "a/b"),
    ],
)
def test_a_model_in_one_word_is_what_it_looks_like(
    tmp_path: Path, model: str, key: str, value: str | None
) -> None:
    text = SMALLEST.replace("meta-llama/Meta-Llama-3-8B@main", model)
    if value is None:
        assert "model.hub: must be org/name" in mistakes(tmp_path, text)[0]
        return

    section = read(written(tmp_path, text)).model

    place = value.replace("FOLDER", str(tmp_path)).replace("PARENT", str(tmp_path.parent))
    assert str(getattr(section, key)) == place


@pytest.mark.parametrize(
    ("dataset", "key"),
    [("wikitext2", "name"), ("org/name", "hub"), ("./x.jsonl", "file"), ("x.parquet", "file")],
)
def test_a_data_set_in_one_word_is_what_it_looks_like(
    tmp_path: Path, dataset: str, key: str
) -> None:
    text = SMALLEST + f"evaluate:\n  perplexity: [{dataset}]\n"

    (perplexity,) = read(written(tmp_path, text)).evaluate.perplexity

    assert getattr(perplexity.dataset, key) is not None


def test_all_mistakes_are_listed_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
model: a/b
method:
  name: rtn
  bits: 5
  groupsize: 64
format: compresed-tensors
calibration:
  dataset: wikitext
publish:
  org: me
  privat: true
"""

    found = mistakes(tmp_path, text)

    assert found == [
        "  line 4   method.bits: must be 2, 3, 4 or 8; you wrote 5",
        "  line 5   method.groupsize: no such option; did you mean group_size?",
        "  line 6   format: no format is called compresed-tensors; "
        "did you mean compressed-tensors?",
        "  line 8   calibration.dataset.name: no data set is called wikitext; "
        "did you mean wikitext2?",
        "  line 11  publish.privat: no such option; did you mean private?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("name: rtn", "name: rnt", "line 4  method.name: no method is called rnt; did you mean"),
        ("  name: rtn\n", "", "line 3  method.name: is missing; known: awq, "),
        ("  org: me", "  name: x", "line 6  publish.org: is missing"),
        ("model: meta-llama/Meta-Llama-3-8B@main", "name: x", "model: is missing"),
        ("  bits: 4", "  bits: 4\n  bits: 3", "line 6  method.bits: already set on line 5"),
        ("bits: 4", "bits: !!python/name:os.system x", "the tag !!python/name:os.system"),
        ("bits: 4", "bits: &b 4", "line 5  anchors"),
        ("bits: 4", "bits: [4", "invalid YAML"),
        ("# for tests", "name: me", "line 1  name: not an option; the file's name is used"),
        ("bits: 4", f"bits: {'1' * 5000}", "line 5  not a plain value"),
        ("bits: 4", f"bits: {'[' * 3000}{']' * 3000}", "nested too deeply"),
        ("publish:", "evaluate: {tasks: piqa}\npublish:", "line 6  evaluate.tasks: must be a list"),
        ("org: me", "org: ../me", "line 7  publish.org: the Hub does not accept '../me'"),
        (
            "meta-llama/Meta-Llama-3-8B@main",
            "{folder: ./a, gguf: ./b}",
            "line 2  model: needs exactly one of hub, folder, gguf, wheel; "
            "you wrote folder and gguf",
        ),
    ],
)
def test_a_mistake_says_what_and_where(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    found = mistakes(tmp_path, SMALLEST.replace(old, new))

    assert any(sentence in line for line in found), found


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("base_model: https://huggingface.co/a/b/tree/main", "is an address; write a/b"),
        ("base_model: hf.co/a/b", "is an address; write a/b"),
        ("base_model: ./models/b", "must be org/name, as the Hub calls it"),
        ("base_model: /home/me/b", "must be org/name, as the Hub calls it"),
        ("base_model: b", "must be org/name, as the Hub calls it"),
        ("base_model: a/my--model", "'my--model' is not a valid name on the Hub"),
        ("base_model: a/b@../c", "'../c' is not a revision"),
    ],
)
def test_a_base_is_an_id_on_the_hub(tmp_path: Path, written: str, sentence: str) -> None:
    text = SMALLEST.replace(
        "model: meta-llama/Meta-Llama-3-8B@main", f"model:\n  folder: ./x\n  {written}"
    )

    (told,) = mistakes(tmp_path, text)

    assert told.startswith("  line 4  model.base_model: ")
    assert sentence in told


@pytest.mark.parametrize("name", ["my--model", "my model", "modèle", "x.git", "-x", "x" * 97])
def test_a_name_that_the_hub_refuses_is_refused_in_the_recipe(tmp_path: Path, name: str) -> None:
    (told,) = mistakes(tmp_path, SMALLEST + f"  name: {name}\n")

    assert told.startswith(f"  line 8  publish.name: the Hub does not accept '{name}': it may")


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("calibration: {dataset: c4, seed: yes}", "calibration.seed: must be a number"),
        ("calibration: {dataset: c4, samples: '8'}", "samples: must be a number, without quotes"),
        ("calibration: {dataset: c4, length: 8.0}", "length: must be a whole number"),
        (f"calibration: {{dataset: c4, length: {10**20}}}", "length: must be at most 9,007,"),
        ("evaluate: {limit: true}", "evaluate.limit: must be a number"),
        ("evaluate: {seed: -1}", "evaluate.seed: must be greater than or equal to 0"),
        ("evaluate: {require: {divergence: .inf}}", "divergence: must be a finite number"),
        ("evaluate: {tasks: [{name: a, chat_template: 1}]}", "chat_template: must be true or"),
        ("embeddings: yes", "embeddings: must be a number"),
        ("embeddings: 8.0", "embeddings: must be a whole number"),
    ],
)
def test_numbers_and_switches_are_what_is_written(
    tmp_path: Path, written: str, sentence: str
) -> None:
    (told,) = mistakes(tmp_path, f"{written}\n{SMALLEST}")

    assert sentence in told


@pytest.mark.parametrize("name", methods())
def test_no_number_of_a_method_is_a_switch_or_a_word(tmp_path: Path, name: str) -> None:
    class_ = method_class(name)
    fields = [key for key, each in class_.model_fields.items() if type(each.default) is not str]
    for field in fields:
        is_switch = type(class_.model_fields[field].default) is bool
        for value in ("'4'", "1" if is_switch else "yes"):
            method = f"{{name: {name}, {field}: {value}}}"

            told = mistakes(tmp_path, f"model: a/b\nmethod: {method}\npublish: {{org: me}}\n")

            assert f"method.{field}: must be" in told[0]


def test_an_exponent_makes_a_number(tmp_path: Path) -> None:
    method = "method: {name: gptq, damping: 1e-3}"
    calibration = "calibration: {dataset: c4}"

    recipe = read(written(tmp_path, f"model: a/b\n{method}\n{calibration}\npublish: {{org: me}}"))

    assert recipe.model_dump()["method"]["damping"] == 0.001


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 20_000 + "]" * 20_000,
        "".join(f"key{number}: 1\n" for number in range(100_000)),
        "#" + "x" * 10_000_000 + "\n",
        "- " * 40_000,
        "".join(f"k{number}:\n" for number in range(10_000)),
    ],
    ids=["brackets", "keys", "comment", "dashes", "few keys"],
)
def test_a_recipe_beyond_all_measure_is_refused_before_it_is_built(
    tmp_path: Path, text: str
) -> None:
    (told,) = mistakes(tmp_path, text)

    assert "YAML that hubq does not read: it" in told


def test_an_empty_file_is_no_recipe(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "# nothing\n")[0].startswith("  line 1  recipe: must be a mapping")


def test_a_missing_recipe_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, SMALLEST)

    with pytest.raises(UserError, match=r"did you mean mine\.yaml\?"):
        read(tmp_path / "mime.yaml")


def test_a_saved_recipe_comes_back_equal(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, SMALLEST))

    again = Recipe.model_validate_json(recipe.model_dump_json())

    assert again == recipe


def test_the_schema_knows_every_method_with_its_options() -> None:
    choices = schema()["properties"]["method"]["oneOf"]

    assert {each["properties"]["name"]["const"] for each in choices[1:]} == set(methods())


SCRAPS = (
    "null",
    "[]",
    "-1",
    "~nobody/x",
    "!!map",
    "*a",
    "<<: {a: 1}",
    ".nan",
    "2024-01-01",
    "\x00",
)


@pytest.mark.parametrize("seed", range(20))
def test_no_mangled_recipe_ends_otherwise_than_in_a_list_of_mistakes(
    tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    for _ in range(10):
        lines = SMALLEST.splitlines()
        line = random.randrange(len(lines))
        lines[line] = f"{lines[line].partition(':')[0]}: {random.choice(SCRAPS)}"
        lines.insert(random.randrange(len(lines)), random.choice(lines))

        path = written(tmp_path, "\n".join(lines))

        with suppress(UserError):
            read(path)


def test_a_gate_and_an_open_door_contradict_each_other(tmp_path: Path) -> None:
    wanted = SMALLEST + "  gated: auto\n  open_although_gated: true\n"

    (told,) = mistakes(tmp_path, wanted)

    assert "gated and open_although_gated contradict each other" in told


def test_a_gate_is_auto_or_manual(tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, SMALLEST + "  gated: maybe\n")

    assert "publish.gated: must be 'auto' or 'manual'; you wrote maybe" in told


MIXED = """\
# for tests
model: a/b
method: {name: gptq, bits: 4}
calibration:
  datasets:
    - wikitext2
    - {hub: a/b, field: translation.en, weight: 2.5}
    - ./texts.csv
  samples: 9
publish: {org: me}
"""


def test_several_data_sets_share_the_windows_by_their_weights(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(MIXED)

    section = read(tmp_path / "some.yaml").calibration

    assert section is not None
    assert [windows for _, windows in section.parts] == [2, 5, 2]
    assert [each.name or each.hub or each.file for each, _ in section.parts] == [
        "wikitext2",
        "a/b",
        tmp_path / "texts.csv",
    ]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("samples: 9", "samples: 2", "data set 3 of datasets gets none of 2 windows; give it more"),
        ("weight: 2.5", "weight: 0", "line 7  calibration.datasets.1.weight: must be"),
        ("weight: 2.5", "weight: .inf", "line 7  calibration.datasets.1.weight: must be"),
        ("weight: 2.5", "wieght: 2", "line 7  calibration.datasets.1.wieght: no such option; did"),
        (
            "- wikitext2",
            "- wikitext3",
            "line 6  calibration.datasets.0.name: no data set is",
        ),
        ("  samples: 9", "  dataset: c4", "needs exactly one of dataset, datasets; you wrote data"),
        ("  samples: 9", "  dataset: {name: c4, weight: 2}", "calibration.dataset.weight: no such"),
    ],
)
def test_what_is_wrong_with_several_data_sets_is_said(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "some.yaml").write_text(MIXED.replace(old, new))

    with pytest.raises(UserError, match=re.escape(sentence)):
        read(tmp_path / "some.yaml")
