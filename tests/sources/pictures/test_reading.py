"""Pictures of strangers: what is read looks as people see it, the rest is refused."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy
import pytest
from PIL import Image

from hubq.errors import UserError
from hubq.sources.pictures import reading
from hubq.sources.pictures.reading import picture, picture_file

RED = (255, 0, 0)
WHITE = (255, 255, 255)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """Return a picture's file."""
    into = BytesIO()
    image.save(into, form, **options)
    return into.getvalue()


def plain(mode: str = "RGB", color: object = RED) -> Image.Image:
    """Return a picture of 6 x 4 pixels of one colour."""
    return Image.new(mode, (6, 4), color)  # type: ignore[arg-type]


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return one part of a PNG file."""
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    """Return a PNG of 8-bit RGB that has no more than a header says."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("JPEG", {"quality": 100, "subsampling": 0, "progressive": True}),
    ],
)
def test_a_format_is_told_by_its_content(
    form: str, options: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "picture.svg"
    path.write_bytes(saved(plain(), form, **options))

    found = picture_file(path)

    assert (found.mode, found.size) == ("RGB", (6, 4))
    assert numpy.abs(numpy.asarray(found, dtype=int) - RED).max() <= 2


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (plain("RGBA", (255, 0, 0, 0)), WHITE),
        (plain("RGBA", (255, 0, 0, 51)), (255, 204, 204)),
        (plain("LA", (0, 51)), (204, 204, 204)),
        (plain("RGBA", (255, 0, 0, 255)).convert("P"), RED),
        (plain("1", 1), WHITE),
    ],
)
def test_what_is_transparent_shows_white(given: Image.Image, seen: tuple[int, int, int]) -> None:
    found = picture(saved(given), "it")

    assert found.getpixel((2, 2)) == seen


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_color_that_a_file_calls_transparent_shows_white(mode: str) -> None:
    given = plain(mode, 0)
    content = saved(given, transparency=(0, 0, 0) if mode == "RGB" else 0)

    assert picture(content, "it").getpixel((2, 2)) == WHITE


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    greys = numpy.array([[0, 255, 256, 32768, 65535]], dtype=numpy.uint16)

    found = picture(saved(Image.fromarray(greys)), "it")

    assert [found.getpixel((at, 0)) for at in range(5)] == [(v, v, v) for v in (0, 0, 1, 128, 255)]


def test_a_grey_of_sixteen_bits_that_a_file_calls_transparent_shows_white() -> None:
    greys = numpy.array([[300, 301]], dtype=numpy.uint16)
    content = saved(Image.fromarray(greys), transparency=300)

    found = picture(content, "it")

    assert [found.getpixel((at, 0)) for at in range(2)] == [WHITE, (1, 1, 1)]


def test_the_colors_of_printers_become_those_of_screens() -> None:
    given = plain("CMYK", (0, 255, 255, 0))

    found = picture(saved(given, "JPEG", quality=100), "it")

    assert numpy.abs(numpy.asarray(found, dtype=int) - RED).max() <= 2


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_is_turned_as_the_camera_was_held(turn: int) -> None:
    upright = Image.fromarray(numpy.arange(18, dtype=numpy.uint8).reshape(2, 3, 3) * 10)
    # What each turn undoes, in numpy's terms (EXIF 2.32, 4.6.4 A, Orientation).
    undone = {
        1: lambda it: it,
        2: lambda it: it[:, ::-1],
        3: lambda it: it[::-1, ::-1],
        4: lambda it: it[::-1],
        5: lambda it: it.swapaxes(0, 1),
        6: lambda it: it.swapaxes(0, 1)[::-1],
        7: lambda it: it[::-1, ::-1].swapaxes(0, 1),
        8: lambda it: it.swapaxes(0, 1)[:, ::-1],
    }
    exif = Image.Exif()
    exif[reading.ORIENTATION] = turn
    stored = Image.fromarray(numpy.ascontiguousarray(undone[turn](numpy.asarray(upright))))

    found = picture(saved(stored, exif=exif), "it")

    assert (numpy.asarray(found) == numpy.asarray(upright)).all()


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_what_moves_is_refused(form: str) -> None:
    content = saved(plain(), form, save_all=True, append_images=[plain(color=(0, 0, 255))])

    with pytest.raises(UserError, match=r"it moves: .* save the one that is meant"):
        picture(content, "it")


def test_of_several_views_of_one_photo_the_first_is_seen() -> None:
    other = plain(color=(0, 0, 255))
    content = saved(plain(), "MPO", save_all=True, append_images=[other])

    found = picture(content, "it").getpixel((2, 2))

    assert isinstance(found, tuple)
    assert found[0] > 250


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"),
        (b"just words", "is no picture that hubq knows"),
        (b"\n <svg xmlns='http://www.w3.org/2000/svg'/>", "is SVG, or another text"),
        (b"%PDF-1.7", "is PDF"),
        (b"\0\0\0\x18ftypheic", "is HEIC, AVIF or a film"),
        (saved(plain(), "TIFF"), "is TIFF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "is a damaged PNG"),
    ],
)
def test_what_is_not_read_is_named(content: bytes, named: str) -> None:
    with pytest.raises(UserError, match=f"it {named}.*; hubq reads PNG, JPEG, .*: save it as PNG"):
        picture(content, "it")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_file_that_ends_early_is_refused(form: str) -> None:
    noise = numpy.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=numpy.uint8)
    content = saved(Image.fromarray(noise), form)

    with pytest.raises(UserError, match=r"^it is (damaged|a damaged)"):
        picture(content[: len(content) // 2], "it")


def test_a_file_that_announces_more_and_ends_is_refused() -> None:
    content = saved(plain(), "GIF")[:-1] + b"!"  # the mark of an extension, of no kind

    with pytest.raises(UserError, match="it is damaged"):
        picture(content, "it")


@pytest.mark.parametrize(
    ("width", "height"), [(6001, 6000), (9500, 9500), (65_535, 65_535), (2**31 - 1, 2**31 - 1)]
)
def test_too_many_pixels_are_refused_by_the_header(width: int, height: int) -> None:
    with pytest.raises(UserError, match="more than 36,000,000"):
        picture(png(width, height), "it")


def test_a_thread_of_pixels_is_refused() -> None:
    with pytest.raises(UserError, match=r"it has 1 x 2,010 pixels, .* cut it"):
        picture(png(1, 2010), "it")


def test_texts_that_unpack_to_much_more_are_refused() -> None:
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000)))

    with pytest.raises(UserError, match="Decompressed data too large"):
        picture(png(4, 4, bomb), "it")


def test_a_photo_that_draws_over_itself_again_and_again_is_refused() -> None:
    content = saved(plain(), "JPEG", progressive=True)
    scan = content[content.rindex(reading.START_OF_SCAN) : -2]

    with pytest.raises(UserError, match="draws its pixels over 100 times"):
        picture(content[:-2] + scan * 100 + content[-2:], "it")


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(saved(plain()))
    with path.open("r+b") as file:
        file.truncate(reading.MAX_BYTES + 2)  # no room on the disk

    with pytest.raises(UserError, match=r"big\.png has more than 25,000,000 bytes"):
        picture_file(path)


def test_a_picture_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing, or no file"):
        picture_file(tmp_path)


def test_no_damage_gets_past_the_words() -> None:
    """Change bytes of each kind of file at random: it is read, or refused."""
    pick = numpy.random.default_rng(0)
    exif = Image.Exif()
    exif[reading.ORIENTATION] = 6
    files = [saved(plain(), form, exif=exif) for form in ("PNG", "JPEG", "WEBP")]
    files += [saved(plain(), form) for form in ("GIF", "BMP")]
    outcomes: set[object] = set()
    for number in range(500):
        content = bytearray(files[number % len(files)])
        for place in pick.integers(0, len(content), 3):
            content[place] = pick.integers(0, 256)
        try:
            outcomes.add(picture(bytes(content), "it").mode)
        except UserError as error:
            outcomes.add(type(error))

    assert outcomes == {"RGB", UserError}
