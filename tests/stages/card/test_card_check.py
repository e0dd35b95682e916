from io import BytesIO
from pathlib import Path

import pytest
from made_run import full_report, made_siblings
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hubq.errors import UserError
from hubq.stages.card.card import renew
from hubq.stages.card.check import differences, report_in
from hubq.stages.card.plots import alike
from hubq.stages.publish.release import papers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a card with every picture; read it, never write."""
    folder = tmp_path_factory.mktemp("card")
    report = full_report()
    report.save(folder / "report.json")
    renew(report, made_siblings(report), folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the card to spoil."""
    import shutil

    return Path(shutil.copytree(made, tmp_path / "card"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_card_as_it_was_written_says_what_its_records_say(made: Path) -> None:
    assert differences(made) == []


def test_a_card_has_a_picture_of_each_kind_for_light_and_dark_pages(made: Path) -> None:
    names = sorted(path.name for path in (made / "images").iterdir())

    assert names == [
        "bits-dark.png",
        "bits.png",
        "errors-dark.png",
        "errors.png",
        "recovery-dark.png",
        "recovery.png",
    ]


def test_an_edited_number_is_caught_with_its_line(folder: Path) -> None:
    edit(folder / "README.md", "| 29.58 ±", "| 26.58 ±")

    (found,) = differences(folder)

    assert f"{folder / 'README.md'}, line " in found
    assert "it says:         | xsum" in found
    assert "26.58" in found.splitlines()[1]
    assert "29.58" in found.splitlines()[2]


def test_an_edited_report_is_caught(folder: Path) -> None:
    edit(folder / "report.json", '"value": 29.58', '"value": 28.58')

    assert any("28.58" in each for each in differences(folder))


def test_an_edited_sibling_is_caught(folder: Path) -> None:
    edit(folder / "siblings.json", "Tiny-Llama-QuIP-2bit", "Tiny-Llama-QuIP-1bit")

    assert any("QuIP-1bit" in each for each in differences(folder))


def test_of_many_lines_that_differ_the_first_are_shown(folder: Path) -> None:
    (folder / "README.md").write_text("Nothing.\n")

    found = differences(folder)

    assert len(found) == 4
    assert found[0].startswith(f"{folder / 'README.md'}, line 1\n")
    assert found[3].endswith(" more lines")


def test_other_line_ends_are_a_difference(folder: Path) -> None:
    path = folder / "README.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert differences(folder) == [f"{path} differs in its line endings or encoding"]


def test_a_missing_card_is_named(folder: Path) -> None:
    (folder / "README.md").unlink()

    assert differences(folder) == [f"{folder / 'README.md'} is missing"]


def test_pictures_that_are_missing_changed_or_too_many_are_named(folder: Path) -> None:
    images = folder / "images"
    (images / "bits.png").unlink()
    (images / "errors.png").write_bytes((images / "recovery.png").read_bytes())
    (images / "mine.png").write_bytes(b"")

    assert differences(folder) == [
        f"{images / 'errors.png'} does not match its records",
        f"{images / 'bits.png'} is missing",
        f"{images / 'mine.png'} is not a picture of this card",
    ]


def test_writing_a_card_anew_takes_away_pictures_of_before(folder: Path) -> None:
    (folder / "images" / "errors-dark.png").write_bytes(b"of before")

    renew(full_report(), made_siblings(full_report()), folder)

    assert differences(folder) == []


def test_a_copy_of_the_repo_is_checked_alike(made: Path, tmp_path: Path) -> None:
    report = full_report()
    siblings = made_siblings(report)
    for name, content in papers(report, siblings).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    renew(report, siblings, tmp_path)

    assert differences(tmp_path) == []
    assert (tmp_path / "README.md").read_bytes() == (made / "README.md").read_bytes()
    assert not (tmp_path / "siblings.json").exists()


def test_a_folder_without_a_report_says_what_to_name_instead(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither report\.json nor hubq/report\.json"):
        report_in(tmp_path)


def repainted(content: bytes, pixels: int, software: str) -> bytes:
    """Change some pixels of a picture, as drawn by some software."""
    picture = Image.open(BytesIO(content)).convert("RGB")
    for place in range(pixels):
        picture.putpixel((place % picture.width, place // picture.width), (255, 0, 255))
    info = PngInfo()
    info.add_text("Software", software)
    into = BytesIO()
    picture.save(into, format="png", pnginfo=info)
    return into.getvalue()


def test_pictures_by_the_same_versions_are_compared_to_the_pixel(made: Path) -> None:
    content = (made / "images" / "bits.png").read_bytes()
    software = str(Image.open(BytesIO(content)).info["Software"])

    assert alike(content, repainted(content, 0, software))
    assert not alike(content, repainted(content, 1, software))


def test_other_versions_may_draw_a_little_differently(made: Path) -> None:
    content = (made / "images" / "bits.png").read_bytes()

    assert alike(content, repainted(content, 1000, "matplotlib 9"))
    assert not alike(content, repainted(content, 40_000, "matplotlib 9"))


def test_what_is_no_picture_is_like_none(made: Path) -> None:
    assert not alike((made / "images" / "bits.png").read_bytes(), b"GIF89a")
