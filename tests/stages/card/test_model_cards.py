"""The cards in model_cards/ are what their records say today; none was edited by hand."""

from pathlib import Path

import pytest
from test_code_blocks import LANGUAGES, blocks_in, commands, is_checked

from hubq.records.card_rules import validate
from hubq.records.run_folder import FAMILY, REPORT
from hubq.stages.card.card import CARD, render
from hubq.stages.card.check import differences, report_in
from hubq.stages.card.plots.style import drawing_software
from hubq.stages.compare.comparison import Family, families
from hubq.stages.compare.reports import siblings_in, siblings_of
from hubq.stages.compare.tables import markdown
from hubq.stages.recipe.recipe import Recipe, read
from hubq.stages.sweep.results import family_differences, short_base

ROOT = Path(__file__).parents[3]
FOLDERS = sorted(path.parent for path in ROOT.glob(f"model_cards/*/{REPORT}"))
FAMILIES = sorted(path.parent for path in ROOT.glob(f"model_cards/*/{FAMILY}"))
NONE_YET = "model_cards/ holds no cards yet"

if FOLDERS:
    each_card = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
else:
    each_card = pytest.mark.parametrize(
        "folder", [pytest.param(ROOT, marks=pytest.mark.skip(reason=NONE_YET))], ids=["none"]
    )


@each_card
def test_a_card_says_what_its_records_say(folder: Path) -> None:
    assert differences(folder) == []


@pytest.mark.parametrize("folder", FAMILIES, ids=lambda path: path.name)
def test_a_familys_page_says_what_the_reports_beside_it_say(folder: Path) -> None:
    (family,) = families(map(report_in, FOLDERS))

    assert Family.load(folder / FAMILY) == family
    assert short_base(family) == folder.name
    assert family_differences(folder) == []


@each_card
def test_a_card_is_named_after_its_repo_and_the_hub_takes_it(folder: Path) -> None:
    report = report_in(folder)
    text = render(report, siblings_in(folder))

    assert report.plan.repo.rpartition("/")[2] == folder.name
    assert validate(text, "model").errors == []


@each_card
def test_pictures_are_drawn_by_the_pinned_versions(folder: Path) -> None:
    from PIL import Image

    pictures = sorted(folder.glob("images/*.png"))

    assert pictures
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.info["Software"] == pinned_software()


def pinned_software() -> str:
    """Name the versions in constraints.txt as pictures do."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    return f"matplotlib {pinned['matplotlib']}, Pillow {pinned['pillow']}"


def test_this_environment_draws_pictures_with_the_pinned_versions() -> None:
    if drawing_software() != pinned_software():
        pytest.skip("another matplotlib or Pillow is installed: pictures are compared by pixels")

    assert drawing_software() == pinned_software()


@each_card
def test_the_siblings_are_what_the_neighbours_reports_say(folder: Path) -> None:
    others = [report_in(each) for each in FOLDERS if each != folder]

    assert siblings_in(folder) == siblings_of(report_in(folder), others)


@each_card
def test_a_card_was_made_by_the_recipe_of_its_name(folder: Path) -> None:
    planned = Recipe.model_validate(report_in(folder).plan.recipe)

    recipe = read(ROOT / "recipes" / f"{planned.name}.yaml")

    assert planned == recipe


@each_card
def test_the_code_on_a_card_is_of_kinds_that_are_checked(folder: Path) -> None:
    found = blocks_in((folder / CARD).read_text(encoding="utf-8"))

    assert {each.language for each in found} <= LANGUAGES
    for words in commands(found):
        assert is_checked(words), words
    for each in found:
        if each.language == "python":
            compile(each.code, str(folder), "exec")


@each_card
def test_the_recipe_on_a_card_reads_back_as_the_one_that_made_it(
    folder: Path, tmp_path: Path
) -> None:
    planned = Recipe.model_validate(report_in(folder).plan.recipe)
    found = blocks_in((folder / CARD).read_text(encoding="utf-8"))
    (written,) = [each.code for each in found if each.language == "yaml"]
    path = tmp_path / f"{planned.name}.yaml"

    path.write_text(written, encoding="utf-8")

    assert read(path) == planned


@pytest.mark.skipif(not FOLDERS, reason=NONE_YET)
def test_the_table_of_the_benchmarks_is_what_the_cards_reports_say() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    shown = [line for line in page.splitlines() if line[:2] == "| "]

    (family,) = families(map(report_in, FOLDERS))
    table = [line for line in markdown(family).splitlines() if line[:2] == "| "]

    start = shown.index(table[0])
    assert shown[start : start + len(table)] == table
