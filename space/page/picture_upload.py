"""A picture given with a prompt: where visitors choose one, and what is taken of it.

The browser sends it along with the click that asks, in base64, so that nothing is written to this
machine's disk and nothing is kept: asked again, it is sent again. A chat knows only its hash.
"""

from base64 import b64decode
from hashlib import sha256
from typing import Any, NamedTuple

import gradio as gr

from hubq.errors import UserError
from hubq.sources.pictures.reading import picture
from page.events import QUIET
from releases.models import Problem
from serving.conversation import ComparisonService

MOST_BYTES = 4 << 20  # of a picture's file
MOST_CHARACTERS = 4 * MOST_BYTES // 3 + 100  # as it is sent
WHERE = "the picture"
SENT = "sent-picture"  # the input's id
CHOOSER = (
    '<label for="hubq-picture">Picture (optional), shown with the first question to models that '
    f"see; at most {MOST_BYTES >> 20} MB</label> "
    '<input id="hubq-picture" type="file" accept="image/*">'
)
# What COUNT does, and the second input is filled with the picture that is chosen at the click.
COUNT_AND_SHOW = f"""async (_, __, ...inputs) => {{
  const click = window.clicks = (window.clicks ?? 0) + 1;
  const file = document.querySelector('#hubq-picture')?.files[0];
  const read = file => new Promise(done => {{
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => done('the browser can not read it');
    reader.readAsDataURL(file);
  }});
  const large = file && file.size > {MOST_BYTES};
  const sent = large ? `it has ${{file.size}} bytes` : file ? await read(file) : '';
  return [click, sent, ...inputs];
}}"""


class TakenPicture(NamedTuple):
    """A picture that was looked at, as requests carry it."""

    base64: str
    digest: str  # sha256 of the file
    size: tuple[int, int]  # width and height


class PictureInput(NamedTuple):
    """Where a picture is chosen, and the input that a click fills with it."""

    chooser: gr.HTML
    sent: gr.Textbox


def picture_input(service: ComparisonService, chosen: gr.Dropdown) -> PictureInput:
    """Lay the input out; it is there only while one of the chosen models sees."""
    chooser = gr.HTML(CHOOSER, visible=False, elem_id="picture")
    sent = gr.Textbox("", visible=False, elem_id=SENT)

    def offer(names: list[str] | None) -> Any:  # noqa: ANN401 - Gradio's update
        return gr.update(visible=any(_sees(service, each) for each in names or ()))

    chosen.change(offer, chosen, chooser, concurrency_limit=None, **QUIET)
    return PictureInput(chooser, sent)


def _sees(service: ComparisonService, name: str) -> bool:
    found = service.catalogue.pick(name)
    return not isinstance(found, Problem) and found.sees


def is_picture(component: object) -> bool:
    """Tell whether this is the input that a picture comes by."""
    return getattr(component, "elem_id", None) == SENT


def taken(sent: str | None) -> TakenPicture | None:
    """Return the picture that a browser sent, None: it sent none.

    Raises UserError, in words, for what is too large, or no picture that can be read.
    """
    if not sent:
        return None
    head, comma, encoded = sent.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise UserError(
            f"{WHERE} can't be taken ({sent[:60]!r}): choose a file of at most "
            f"{MOST_BYTES >> 20} MB"
        )
    try:
        content = b64decode(encoded, validate=True)
    except ValueError as error:
        raise UserError(f"{WHERE} was damaged on its way here: choose it again") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{WHERE} has {len(content):,} bytes and at most {MOST_BYTES:,} are read")
    return TakenPicture(encoded, sha256(content).hexdigest(), picture(content, WHERE).size)


def about(shown: TakenPicture | None) -> str:
    """Say what goes along with a prompt, nothing where nothing does."""
    if shown is None:
        return ""
    width, height = shown.size
    return f"The models see the picture, {width} x {height} pixels"
