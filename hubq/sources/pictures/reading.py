"""Read a picture that a stranger made: within limits, as 8-bit RGB, or refused in words."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from hubq.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 25_000_000
MAX_PIXELS = 36_000_000  # a page of paper (A4), scanned at 600 dots per inch
MAX_ASPECT = 200  # one side by the other: processors of models fail at more
MAX_SCANS = 100  # of a progressive JPEG: each costs time for all pixels, and few bytes
START_OF_SCAN = b"\xff\xda"
ORIENTATION = 0x0112  # EXIF's tag
CLEAR = ("LA", "PA", "RGBA")  # modes with a channel for how much shows
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # Pillow's names; a JPEG may be an MPO inside
READ = "hubq reads PNG, JPEG, WebP, GIF and BMP"
# What people try, by the bytes that a file begins with.
OTHERS = (
    (0, b"\x89PNG", "a damaged PNG"),
    (0, b"\xff\xd8", "a damaged JPEG"),
    (0, b"RIFF", "a damaged WebP, or sound or a film,"),
    (0, b"GIF8", "a damaged GIF"),
    (0, b"BM", "a damaged BMP"),
    (0, b"<", "SVG, or another text,"),
    (0, b"%PDF", "PDF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftyp", "HEIC, AVIF or a film"),
)


def picture_file(path: Path) -> "Image":
    """Read a picture from a file, as `picture` does."""
    if not path.is_file():  # a pipe would be read for ever
        raise UserError(f"{path} is missing, or no file; name a picture")
    with path.open("rb") as file:
        return picture(file.read(MAX_BYTES + 1), str(path))


def picture(content: bytes, where: str) -> "Image":
    """Return a file's picture as 8-bit RGB, upright, on white where it is transparent.

    What it is, its content tells and not its name. 16-bit pictures are scaled to 8 bits. One that
    moves, or has several pages, is refused: it is not told which of them is meant.

    Raises UserError, with `where` the picture is from, for what is none, is damaged, or is more
    than MAX_BYTES or MAX_PIXELS, which its header tells before anything is decoded.
    """
    if len(content) > MAX_BYTES:
        raise UserError(f"{where} has more than {MAX_BYTES:,} bytes; make the picture smaller")
    if content.count(START_OF_SCAN) > MAX_SCANS and content.startswith(b"\xff\xd8"):
        raise UserError(f"{where} draws its pixels over {MAX_SCANS} times; save it as PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow doubts is checked here, or says nothing
        return _read(content, where)


def _read(content: bytes, where: str) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(BytesIO(content), formats=FORMATS)
        _check(opened, where)
        return _flat(_upright(opened))
    except UnidentifiedImageError:
        raise UserError(f"{where} is {_name(content)}; {READ}: save it as PNG") from None
    except Image.DecompressionBombError:
        raise UserError(f"{where} has more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise UserError(f"{where} is damaged ({error}); save it again, as PNG") from error


def _check(opened: "Image", where: str) -> None:
    """Raise UserError for what isn't worth decoding; Pillow has read nothing but the header."""
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{where} has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,}; make it smaller"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(
            f"{where} has {width:,} x {height:,} pixels, one side over {MAX_ASPECT} times the "
            "other; cut it to what is to be seen"
        )
    moves = getattr(opened, "is_animated", False) and opened.format != "MPO"  # views of one thing
    if moves:
        raise UserError(f"{where} moves: it has several pictures; save the one that is meant")


def _upright(opened: "Image") -> "Image":
    """Turn and mirror a picture as its EXIF says that it was taken."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    opened.load()
    turn = turns.get(opened.getexif().get(ORIENTATION, 1))
    return opened if turn is None else opened.transpose(turn)


def _flat(found: "Image") -> "Image":
    """Return a picture of any mode as 8-bit RGB on white."""
    from PIL import Image

    if found.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        found = _eight_bits(found)
    if "transparency" not in found.info and found.mode not in CLEAR:
        return found.convert("RGB")
    seen = found.convert("RGBA")
    white = Image.new("RGB", seen.size, "white")
    white.paste(seen, mask=seen.getchannel("A"))
    return white


def _eight_bits(found: "Image") -> "Image":
    """Keep the upper byte of each grey, as Pillow does for colours, and white for what is clear."""
    import numpy
    from PIL import Image

    greys = numpy.asarray(found)
    clear = greys == found.info.get("transparency", -1)
    return Image.fromarray(numpy.where(clear, 255, greys >> 8).astype(numpy.uint8))


def _name(content: bytes) -> str:
    """Say what a file that isn't read seems to be."""
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    named = (name for at, magic, name in OTHERS if start[at:].startswith(magic))
    return next(named, "no picture that hubq knows" if content else "empty")
