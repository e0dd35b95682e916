"""A picture given with a prompt: looked at before anything starts, kept nowhere."""

import json
from base64 import b64encode
from hashlib import sha256
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from hubq.errors import UserError
from page.guard import MOST_BYTES as MOST_OF_A_REQUEST
from page.guard import MOST_WITH_PICTURE, Form
from page.picture_upload import MOST_BYTES, SENT, about, taken


def file(width: int = 20, height: int = 10) -> bytes:
    written = BytesIO()
    Image.new("RGB", (width, height), "red").save(written, "PNG")
    return written.getvalue()


def sent(content: bytes) -> str:
    """Write a file as a browser sends it."""
    return f"data:image/png;base64,{b64encode(content).decode()}"


def test_a_picture_is_taken_as_it_is_and_told_by_its_size() -> None:
    content = file()

    found = taken(sent(content))

    assert found is not None
    assert found.base64 == b64encode(content).decode()
    assert found.digest == sha256(content).hexdigest()
    assert about(found) == "The models see the picture, 20 x 10 pixels"


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_picture_is_none(nothing: str | None) -> None:
    assert taken(nothing) is None
    assert about(None) == ""


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        ("it has 99999999 bytes", "'it has 99999999 bytes'"),
        ("/etc/passwd", "can't be taken ('/etc/passwd')"),
        ("data:image/png,nothing", "can't be taken"),
        ("data:image/png;base64,!!!", "was damaged on its way"),
        (sent(b"\0" * (MOST_BYTES + 1)), "4,194,305 bytes and at most 4,194,304 are read"),
        (sent(file()[:40]), "damaged"),
        (sent(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "SVG"),
        (sent(b""), "empty"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(hostile: str, said: str) -> None:
    with pytest.raises(UserError, match=r"^the picture ") as refused:
        taken(hostile)

    assert said in str(refused.value)


def test_only_what_takes_a_picture_takes_long_requests() -> None:
    plain, picture = gr.Textbox(), gr.Textbox(elem_id=SENT)
    functions = [
        SimpleNamespace(fn=about, api_name=name, inputs=inputs, _id=number)
        for number, (name, inputs) in enumerate(
            {"plain": [plain], "seen": [plain, picture]}.items()
        )
    ]
    page: Any = SimpleNamespace(fns=dict(enumerate(functions)))
    form, long = Form(page), "x" * (MOST_OF_A_REQUEST + 1)

    def problem(name: str, *data: str) -> str | None:
        return form.problem(name, json.dumps({"data": data}).encode())

    assert problem("seen", "What?", sent(b"\0" * MOST_BYTES)) is None
    assert problem("plain", long) == f"it may have at most {MOST_OF_A_REQUEST:,} bytes"
    assert problem("seen", long, "") == "value 0 can't be held by a Textbox"
    assert len(sent(b"\0" * MOST_BYTES)) < MOST_WITH_PICTURE - MOST_OF_A_REQUEST
