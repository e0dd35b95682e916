from collections.abc import Iterable
from xml.etree import ElementTree

import pytest
from made_models import BASE, interval, made_model
from made_run import measurement

from page.charts import describe, pareto, recovery_chart, short
from releases.comparison import Quality, points, qualities
from releases.models import Released, base_of

GPTQ = made_model("acme/Llama-GPTQ-4bit", stored=4.3, divergence=0.03)
AWQ = made_model("acme/Llama-AWQ-4bit", stored=4.3, divergence=0.04)
QUIP = made_model("acme/Llama-QuIP-2bit", stored=2.0, divergence=0.4)
FAMILY = (base_of(GPTQ, None), QUIP, GPTQ, AWQ)
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = 'acme/"><script>alert(1)</script>${x}{{y}}'


def quality(name: str, models: Iterable[Released] = FAMILY) -> Quality:
    return next(each for each in qualities(models) if each.name == name)


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def pressable(picture: str) -> list[str]:
    found = [each.get("data-model") for each in parsed(picture).iter() if each.get("data-model")]
    return [str(each) for each in found]


def test_models_are_looked_at_by_what_any_of_them_was_measured_by() -> None:
    names = [each.name for each in qualities(FAMILY)]

    assert names == ["KL divergence", "perplexity xsum", "recovery"]


def test_what_nobody_measured_is_no_quality() -> None:
    model = made_model(divergence=None, overall=None)

    assert [each.name for each in qualities([model])] == ["perplexity xsum"]


def test_the_front_holds_what_none_is_better_than_at_fewer_bits() -> None:
    found = {each.model.name: each.is_front for each in points(FAMILY, quality("KL divergence"))}

    assert found == {QUIP.name: True, GPTQ.name: True, AWQ.name: False}


def test_of_recovery_more_is_better() -> None:
    good = made_model("acme/good", overall=GPTQ.measured.overall)
    assert good.measured.overall is not None
    worse = good.measured.overall.model_copy(update={"recovery": interval(0.5, 0.01)})
    bad = made_model("acme/bad", overall=worse)

    found = points([bad, good], quality("recovery"))

    assert [each.is_front for each in found] == [False, True]


def test_each_model_but_the_base_can_be_pressed() -> None:
    picture = pareto(FAMILY, quality("KL divergence"))

    assert pressable(picture) == [QUIP.name, GPTQ.name, AWQ.name]


def test_a_point_says_what_it_is_to_eyes_and_to_readers() -> None:
    picture = pareto(FAMILY, quality("KL divergence"))

    said = next(each for each in parsed(picture) if each.get("data-model") == GPTQ.name)
    words = f"{GPTQ.name}: 4.300 stored bits, KL divergence 0.03000; on the front; press to compare"
    assert said.get("aria-label") == words
    assert [each.text for each in said if each.tag == "title"] == [words]
    assert (said.get("role"), said.get("tabindex")) == ("button", "0")


def test_a_compared_model_is_ringed_and_says_so() -> None:
    found = points(FAMILY, quality("KL divergence"))[0]

    assert describe(found, quality("KL divergence"), chosen=True).endswith("being compared")
    plain = pareto(FAMILY, quality("KL divergence"))
    ringed = pareto(FAMILY, quality("KL divergence"), chosen=[QUIP.name])
    assert ringed.count("<circle") == plain.count("<circle") + 1


def test_the_chart_as_a_whole_has_words() -> None:
    label = parsed(pareto(FAMILY, quality("KL divergence"))).get("aria-label")

    assert label is not None
    assert f"On the front: {QUIP.name}, {GPTQ.name}." in label


def test_the_base_is_a_line_where_it_was_measured() -> None:
    assert "base</text>" in pareto(FAMILY, quality("perplexity xsum"))
    assert "base</text>" not in pareto(FAMILY, quality("KL divergence"))


def test_names_do_not_lie_on_one_another() -> None:
    crowd = [made_model(f"acme/Model-with-a-long-name-{each}", stored=4.3) for each in range(30)]

    picture = pareto(crowd, quality("KL divergence", crowd))

    assert len(pressable(picture)) == 30
    assert picture.count("<text") < 30


@pytest.mark.parametrize("chart", ["pareto", "recovery"])
def test_a_hostile_name_stays_a_text(chart: str) -> None:
    model = made_model(HOSTILE)

    if chart == "pareto":
        picture = pareto([model], quality("KL divergence", [model]), chosen=[HOSTILE])
        assert pressable(picture) == [HOSTILE]
    else:
        picture = recovery_chart([model])

    assert "<script" not in picture
    assert "${" not in picture
    assert "{{" not in picture
    assert HOSTILE in str(parsed(picture).get("aria-label"))


def test_values_that_differ_a_thousandfold_are_all_in_the_picture() -> None:
    models = [
        made_model(f"acme/{value:g}", measurements=(measurement(value=value),))
        for value in (26.0, 1768.0, 4.1e4)
    ]

    picture = pareto(models, quality("perplexity xsum", models))

    assert len(pressable(picture)) == 3


def test_a_model_of_unknown_stored_bits_is_no_point() -> None:
    from dataclasses import replace

    unknown = replace(GPTQ, entry=GPTQ.entry.model_copy(update={"stored_bits": None}))

    assert points([unknown], quality("KL divergence")) == []
    assert "No model has both" in pareto([unknown], quality("KL divergence"))


@pytest.mark.parametrize(
    ("names", "shorter"),
    [
        (["a/Llama-3-GPTQ-4bit", "a/Llama-3-AWQ-4bit"], ["GPTQ-4bit", "AWQ-4bit"]),
        (["a/x", "b/x"], ["x", "x"]),
        (["a/Llama-3", "a/Llama-3-GPTQ"], ["3", "3-GPTQ"]),
        (["a/one"], ["one"]),
        ([], []),
    ],
)
def test_names_are_shortened_by_what_all_begin_with(names: list[str], shorter: list[str]) -> None:
    assert short(names) == shorter


def test_recoveries_are_drawn_task_by_task_for_each_model() -> None:
    picture = recovery_chart([GPTQ, AWQ])

    marks = [str(each.get("aria-label")) for each in parsed(picture) if each.get("role") == "img"]
    assert len(marks) == 6
    assert marks[2] == (
        f"{GPTQ.name}, piqa acc: 98.5 % (96.5 to 100.5) of the base's quality; 67.0 %, the base "
        "68.0 %"
    )


def test_more_models_than_colours_are_counted() -> None:
    crowd = [made_model(f"acme/Llama-{each}") for each in range(9)]

    assert "3 more: choose some to compare" in recovery_chart(crowd)


def test_a_base_alone_has_no_recovery() -> None:
    assert "None of them was measured" in recovery_chart([FAMILY[0]])
    assert FAMILY[0].name == BASE


def test_of_two_that_noise_may_part_both_are_on_the_front_and_the_line_takes_the_lower() -> None:
    near = made_model("acme/Llama-AWQ-4bit", stored=4.3, divergence=0.0305)
    crowd = (QUIP, GPTQ, near)

    found = points(crowd, quality("KL divergence"))
    line = next(each for each in parsed(pareto(crowd, quality("KL divergence"))).iter("polyline"))

    assert [each.is_front for each in found] == [True, True, True]
    assert len(str(line.get("points")).split()) == 3
