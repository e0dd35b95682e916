from io import BytesIO
from itertools import combinations, pairwise

import numpy
import pytest
from made_measurements import made_entry
from made_run import made_report, measurement
from PIL import Image

from hubq.records.checkpoint import QuantizedLayer
from hubq.records.report import Interval, Report
from hubq.stages.card.plots import (
    DARK,
    LIGHT,
    THEMES,
    Theme,
    error_by_layer,
    quality_against_bits,
    recovery_by_task,
)
from hubq.stages.card.plots.labels import apart, around
from hubq.stages.card.plots.layer_errors import errors_by_kind, spread
from hubq.stages.card.plots.quality_vs_bits import bits_figure
from hubq.stages.card.plots.style import canvas, drawing_software
from hubq.stages.card.plots.task_recovery import GREATEST, draw_row, kept, reach
from hubq.stages.compare.comparison import Entry
from hubq.stages.compare.pareto import axes, short_names

FAMILY = [
    made_entry(f"acme/Tiny-{method}-{bits}bit", bits + 0.3, divergence=2.0**-bits * factor)
    for bits in (2, 3, 4, 8)
    for method, factor in (("RTN", 2.0), ("GPTQ", 1.2), ("AWQ", 1.25), ("QuIP", 1.0))
]
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LAYERS = [
    QuantizedLayer(
        name=f"model.layers.{block}.mlp.{kind}",
        bits=4.3,
        needed_bits=4.2,
        error=0.001 * (2 + place) * (1 + block),
        facts={},
    )
    for block in range(30)
    for place, kind in enumerate(KINDS)
]


def reported(*recoveries: float) -> Report:
    """Return a report with a task for each recovery."""
    return made_report(
        measurements=tuple(
            measurement(
                task=f"a_task_with_a_name_{number}",
                metric="acc",
                better="higher",
                recovery=Interval(value=each, low=each - 0.03, high=each + 0.02),
            )
            for number, each in enumerate(recoveries)
        )
    )


def drawn(theme: Theme) -> list[bytes]:
    """Draw one of each kind."""
    pictures = (
        quality_against_bits(FAMILY, FAMILY[9].name, theme),
        error_by_layer(LAYERS, theme),
        recovery_by_task(reported(0.98, 0.91, 1.01), theme),
    )
    return [each for each in pictures if each is not None]


@pytest.fixture(scope="module", params=THEMES, ids=lambda theme: theme.name)
def pictures(request: pytest.FixtureRequest) -> list[bytes]:
    return drawn(request.param)


def test_the_same_values_give_the_same_bytes(pictures: list[bytes]) -> None:
    again = [*drawn(LIGHT), *drawn(DARK)]

    assert all(each in again for each in pictures)


def test_pictures_are_small_files_that_name_what_drew_them_and_no_date(
    pictures: list[bytes],
) -> None:
    opened = [Image.open(BytesIO(each)) for each in pictures]

    assert [each.width for each in opened] == [780, 780, 780]
    assert {str(each.info) for each in opened} == {str({"Software": drawing_software()})}
    assert all(len(each) < 60_000 for each in pictures)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_the_background_is_solid_so_that_it_is_legible_on_either_page(theme: Theme) -> None:
    for each in drawn(theme):
        picture = Image.open(BytesIO(each)).convert("RGBA")

        corner = picture.getpixel((1, 1))

        assert corner == (*bytes.fromhex(theme.paper.removeprefix("#")), 255)


def test_one_model_alone_makes_no_picture_of_bits() -> None:
    assert quality_against_bits(FAMILY[:1], FAMILY[0].name) is None


def test_layers_without_errors_make_no_picture() -> None:
    unmeasured = [each.model_copy(update={"error": None}) for each in LAYERS]

    assert error_by_layer(unmeasured) is None


def test_where_only_the_weights_have_errors_these_are_drawn() -> None:
    of_weights = [
        each.model_copy(update={"error": None, "weight_error": each.error}) for each in LAYERS
    ]

    assert errors_by_kind(of_weights) == errors_by_kind(LAYERS)
    assert error_by_layer(of_weights) not in (None, error_by_layer(LAYERS))


def test_perplexities_alone_make_no_picture_of_tasks() -> None:
    assert recovery_by_task(made_report(measurements=(measurement(),))) is None


def test_errors_are_told_apart_by_the_kind_of_linear() -> None:
    found = errors_by_kind([*LAYERS, LAYERS[0].model_copy(update={"name": "lm_head"})])

    assert list(found) == ["q", "k", "v", "o", "gate", "up", "down"]
    assert found["k"][2] == pytest.approx(0.009)


def test_a_task_with_two_metrics_has_two_rows_that_tell_them_apart() -> None:
    both = [
        measurement(task="piqa", metric=metric, better="higher", base=0.5, value=0.4)
        for metric in ("acc", "acc_norm")
    ]

    rows = kept(made_report(measurements=tuple(both)))

    assert [row.title for row in rows] == ["piqa acc", "piqa acc_norm"]
    assert rows[0].share == Interval(value=0.8)


def test_names_at_the_ends_of_lines_never_overlap() -> None:
    crowded = {"a": 0.97, "b": 0.98, "c": 0.99, "d": 0.05, "e": 0.06}

    placed = spread(crowded, 0.1)

    heights = [placed[name] for name in ("d", "e", "a", "b", "c")]
    assert all(above - below > 0.0999 for below, above in pairwise(heights))
    assert heights[-1] <= 1.0


NOISY = [
    each.model_copy(
        update={
            "divergence": Interval(
                value=each.divergence.value,
                low=0.9 * each.divergence.value,
                high=1.1 * each.divergence.value,
            )
        }
    )
    for each in FAMILY
    if each.divergence
]


@pytest.mark.parametrize("entries", [FAMILY, NOISY, NOISY[:5]], ids=["values", "noisy", "few"])
def test_names_of_the_front_are_all_there_and_no_name_covers_a_point_or_another(
    entries: list[Entry],
) -> None:
    compared = axes(entries)
    assert compared is not None

    figure = bits_figure(entries)

    assert figure is not None
    (drawn,) = figure.axes
    names = short_names(list(compared.points))
    assert {names[name] for name in compared.front} <= {text.get_text() for text in drawn.texts}
    extents = [text.get_window_extent() for text in drawn.texts]
    assert not [1 for one, other in combinations(extents, 2) if one.overlaps(other)]
    places = apart(drawn, [(bits, loss.value) for bits, loss in compared.points.values()])
    points = [around(drawn, at) for at in places]
    assert not [1 for text in extents for point in points if text.overlaps(point)]


def test_points_on_one_another_are_drawn_side_by_side_and_none_gets_fewer_bits() -> None:
    _, drawn = canvas(600, "", LIGHT)
    at = [(0.5, 0.5), (0.5, 0.5), (0.5, 0.5001), (0.9, 0.1)]

    moved = apart(drawn, at)

    assert all(new[0] >= old[0] - 1e-9 for new, old in zip(moved, at, strict=True))
    boxes = [around(drawn, each) for each in moved]
    assert not [1 for one, other in combinations(boxes, 2) if one.padded(-1).overlaps(other)]
    assert moved[3] == pytest.approx((0.9, 0.1))


def test_a_task_that_grew_manifold_does_not_squeeze_the_others() -> None:
    usual = [Interval(value=each, low=each - 0.05, high=each + 0.05) for each in (0.9, 1.0)]

    low, high = reach([*usual, Interval(value=3.3, low=2.4, high=4.7)])

    assert low == pytest.approx(0.85, abs=0.05)
    assert high == pytest.approx(1.5, abs=0.05)
    assert reach(usual)[1] == pytest.approx(1.05, abs=0.02)


def test_a_value_beyond_the_axis_shows_as_an_arrow() -> None:
    _, drawn = canvas(600, "", LIGHT)

    draw_row(drawn, 0, Interval(value=3.3, low=1.2, high=4.7), "red", is_overall=False)

    bar, arrow = drawn.lines
    assert numpy.asarray(bar.get_xdata()).tolist() == [1.2, GREATEST]
    assert arrow.get_marker() == ">"
    assert numpy.asarray(arrow.get_xdata()).tolist() == [GREATEST]
