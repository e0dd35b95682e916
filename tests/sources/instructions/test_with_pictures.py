"""Pictures with text to calibrate on: what is read, what is left out and counted, how it weighs."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from data_hub import COMMIT, data_hub
from PIL import Image
from pydantic import ValidationError
from tiny_vision import vision_tokenizer
from torch import Tensor

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.named_texts import DRAWN_PICTURES
from hubq.records.recipe_calibration import CalibrationSection
from hubq.sources.calibration_tokens import Tokens, tokens
from hubq.sources.instructions.shown_pictures import require_pictures
from hubq.sources.pictures.drawn import DRAWN

NEXT = "LlavaNextForConditionalGeneration"
IMAGE = 258  # the token
ASKED = {"image_field": "image", "user": "question", "assistant": "answer"}


@pytest.fixture
def folder(tiny_vision_model: Callable[[str], Path]) -> Path:
    return tiny_vision_model(NEXT)


def png(color: str = "red", side: int = 40) -> bytes:
    content = BytesIO()
    Image.new("RGB", (side, side), color).save(content, "PNG")
    return content.getvalue()


def row(picture: object, question: str = "What?", answer: str = "This.") -> dict[str, object]:
    return {"image": picture, "question": question, "answer": answer}


def in_parquet(folder: Path, rows: Sequence[Mapping[str, object]], name: str = "p.parquet") -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), folder / name)
    return folder / name


def in_lines(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def read(folder: Path, dataset: Mapping[str, Any], **changes: Any) -> Tokens:
    values = {"dataset": dataset, "samples": 2, "length": 200, **changes}
    return tokens(CalibrationSection.model_validate(values), folder, Client())


def texts(found: Tokens) -> list[str]:
    """Return what the windows say, with as many places as a picture has written as one."""
    assert found.weights is not None
    said = [
        str(vision_tokenizer().decode(ids[weights > 0]))
        for ids, weights in zip(found.ids, found.weights, strict=True)
    ]
    return [re.sub("(<image> ?)+", "<image>", each) for each in said]


def test_a_picture_stands_before_the_first_question(folder: Path, tmp_path: Path) -> None:
    held = {"bytes": png(), "path": None}
    path = in_parquet(tmp_path, [row(held, "Which?", "Red."), row({**held, "bytes": png("blue")})])

    found = read(folder, {"file": path, **ASKED})

    assert texts(found) == [
        "user: <image>Which?assistant: Red.",
        "user: <image>What?assistant: This.",
    ]
    one, other = (each and each["pixel_values"] for each in found.seen)
    assert isinstance(one, Tensor)
    assert isinstance(other, Tensor)
    assert not torch.equal(one, other)
    assert "p.parquet, sha256:" in found.text
    assert "pictures with question and answer, by the chat template" in found.text


def test_captions_answer_a_stated_question_and_messages_may_have_parts(
    folder: Path, tmp_path: Path
) -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "Who?"}]
    said = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "text", "text": "Me."}]},
    ]
    (tmp_path / "a.png").write_bytes(png())
    path = in_lines(tmp_path, [{"at": ["a.png"], "all": ["A cat.", "A dog."], "said": said}] * 2)

    captions = read(folder, {"file": path, "image_field": "at", "field": "all"})
    talks = read(folder, {"file": path, "image_field": "at", "messages": "said"})

    assert texts(captions)[0] == (
        "user: <image>What does the picture show?assistant: A cat. A dog."
    )
    assert texts(talks)[0] == "user: <image>Who?assistant: Me."


def test_what_cannot_be_used_is_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "secret.png"
    inside.mkdir()
    outside.write_bytes(png())
    (inside / "link.png").symlink_to(outside)
    (inside / "circle.png").symlink_to(inside / "circle.png")
    (inside / "bad.png").write_bytes(png()[:60])
    (inside / "a.png").write_bytes(png())
    names: list[object] = ["../secret.png", str(outside), "link.png", "circle.png", "bad.png"]
    names += ["missing.png", "\0", "x" * 5000, None, ["a.png", "a.png"]]
    rows = [row(each) for each in names]
    rows += [row("a.png", "What is <image>?"), row("a.png", ""), row("a.png"), row("a.png")]

    found = read(folder, {"file": in_lines(inside, rows), **ASKED})

    assert texts(found) == ["user: <image>What?assistant: This."] * 2
    for told in (
        "3 with a picture outside of the file's folder left out",
        "5 with a picture that can't be read left out",
        "1 with no picture in the row left out",
        "1 with several pictures in the row left out",
        "1 with the token of a picture in its text left out",
        "1 with no instruction left out",
    ):
        assert told in found.text
    assert "pictures sha256 " in found.text


def test_a_window_is_never_cut_inside_a_picture(folder: Path, tmp_path: Path) -> None:
    held = {"bytes": png()}
    path = in_parquet(tmp_path, [row(held, answer="long " * 20), row(held)])
    whole = read(folder, {"file": path, **ASKED})
    ends = int((whole.ids[0] == IMAGE).nonzero()[-1]) + 1

    found = read(folder, {"file": path, **ASKED}, length=ends)

    assert found.ids.shape == (2, ends)
    assert torch.equal(found.ids[0], whole.ids[0, :ends])
    with pytest.raises(UserError, match=f"2 with a picture that ends behind {ends - 1} tokens"):
        read(folder, {"file": path, **ASKED}, length=ends - 1)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_each_kind_of_token_weighs_its_share_of_all(
    folder: Path, tmp_path: Path, share: float
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words " * 100)
    data = [{"name": "hubq_charts", "weight": 3}, {"file": text, "weight": 1}]

    values = {"datasets": data, "samples": 4, "length": 200, "image_share": share}
    found = tokens(CalibrationSection.model_validate(values), folder, Client())

    assert found.weights is not None
    of_pictures = found.weights[found.ids == IMAGE]
    assert of_pictures.sum() == pytest.approx(share * found.count, rel=1e-5)
    assert found.weights.sum() == pytest.approx(found.count, rel=1e-5)
    assert len(set(found.weights.flatten().tolist())) == 3  # and nothing where a window has ended
    assert [each is None for each in found.seen].count(True) == 1
    assert f"(image_share {share:g})" in found.text
    assert f"of the {len(of_pictures):,} of pictures" in found.text


def test_a_seed_takes_other_rows_first_and_runs_out_of_none(folder: Path, tmp_path: Path) -> None:
    rows = [row({"bytes": png()}, f"What is {number}?") for number in range(6)]
    path = in_parquet(tmp_path, rows)

    def asked(seed: int, samples: int) -> list[str]:
        return texts(read(folder, {"file": path, **ASKED}, seed=seed, samples=samples))

    assert asked(0, 2) == asked(0, 6)[:2] == asked(0, 2)
    assert asked(1, 2) != asked(0, 2)
    assert sorted(asked(1, 6)) == asked(0, 6)


def test_pictures_of_the_hub_are_those_inside_its_files(folder: Path, tmp_path: Path) -> None:
    rows = [row({"bytes": None, "path": "a.png"}), *[row({"bytes": png(), "path": "b.png"})] * 2]
    content = in_parquet(tmp_path, rows).read_bytes()
    dataset = {"hub": "acme/shown", **ASKED}

    with data_hub({"data/train-0.parquet": content}) as (client, _):
        section = CalibrationSection.model_validate({"dataset": dataset, "samples": 2})
        assert section.dataset is not None
        require_pictures(section.dataset, 2, client)
        found = tokens(section, folder, client)
        wrong = section.dataset.model_copy(update={"image_field": "photo"})
        with pytest.raises(UserError, match=r"has no field photo; it has .*image\.bytes"):
            require_pictures(wrong, 2, client)

    assert f"acme/shown@{COMMIT}" in found.text
    assert "1 with no picture in the row left out" in found.text


def test_what_is_missing_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    path = in_lines(tmp_path, [row("none.png")] * 3)
    section = CalibrationSection.model_validate({"dataset": {"file": path, **ASKED}})
    assert section.dataset is not None

    with pytest.raises(UserError, match=r"has 0 usable pictures, .* 3 with a picture that can't"):
        require_pictures(section.dataset, 2, Client())


def test_the_kinds_that_are_drawn_have_names() -> None:
    assert {name.removeprefix("hubq_") for name in DRAWN_PICTURES} == set(DRAWN)


def test_the_field_of_the_only_data_set_may_stand_beside_it() -> None:
    beside = {"dataset": "acme/shown", "image_field": "image"}
    text = {"user": "question", "assistant": "answer"}

    found = CalibrationSection.model_validate(beside | {"dataset": {"hub": "acme/shown", **text}})

    assert found.dataset is not None
    assert found.sees
    assert found.dataset.image_field == "image"
    assert CalibrationSection.model_validate(found.model_dump()) == found


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"dataset": {"hub": "a/b", "image_field": "image"}}, "needs the text beside the picture"),
        ({"dataset": "a/b", "image_field": "image"}, "needs the text beside the picture"),
        ({"datasets": [{"hub": "a/b"}], "image_field": "image"}, "belongs to one data set"),
        ({"dataset": "wikitext2", "image_share": 0.5}, "image_share is for pictures"),
        ({"dataset": {"name": "hubq_charts", "field": "x"}}, "hubq_charts is drawn"),
        ({"dataset": "hubq_charts", "image_share": 1.0}, "less than 1"),
        ({"dataset": {"name": "ultrachat", "image_field": "image"}}, "sets image_field itself"),
    ],
)
def test_what_contradicts_itself_is_no_recipe(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CalibrationSection.model_validate(section)
