"""Whether two files show the same picture: bit by bit, or nearly where other versions drew it."""

from io import BytesIO

from hubq.stages.card.plots.style import SOFTWARE

SEEN = 48  # of 255: a smaller difference of a pixel is one of smoothing
NEARLY = 0.03  # share of the pixels that other versions of type and lines may change


def alike(one: bytes, other: bytes) -> bool:
    """Tell whether two PNG files show the same."""
    import numpy
    from PIL import Image, UnidentifiedImageError

    if one == other:
        return True
    try:
        pictures = [Image.open(BytesIO(each)) for each in (one, other)]
        made_by = {each.info.get(SOFTWARE) for each in pictures}
        first, second = (numpy.asarray(each.convert("RGB"), dtype=int) for each in pictures)
    except UnidentifiedImageError:
        return False
    if first.shape != second.shape:
        return False
    changed = (abs(first - second).max(axis=2) > SEEN).mean()
    return bool(changed < NEARLY) if len(made_by) > 1 else bool((first == second).all())
