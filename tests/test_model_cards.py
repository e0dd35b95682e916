"""The cards in model_cards/ are what their records say today; none was edited by hand."""

from pathlib import Path

import pytest

from hubq.card import CARD, render
from hubq.card_check import differences, report_in
from hubq.hub.card_rules import validate
from hubq.pictures.canvas import drawing_software
from hubq.siblings import siblings_in

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in ROOT.glob(f"model_cards/*/{CARD}"))
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
