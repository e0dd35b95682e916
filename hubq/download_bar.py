"""A bar for huggingface_hub's downloads that draws nothing and reports to a Progress."""

from typing import Any

from hubq.answers import ImplausibleError
from hubq.machine.progress import Advance


def bar(advance: Advance, most: int) -> Any:  # noqa: ANN401 - a subclass of tqdm's class is wanted
    """Return a class in the place of tqdm: each byte on the disk advances once.

    huggingface_hub uses just these methods of a bar; it tells apart what came over the network
    (`update_transfer`) and what was written (`update`), and calls `update` before it writes. More
    than `most` bytes are refused: where they are announced, and where they come unannounced.
    """

    class Bar:
        def __init__(
            self, *_: object, total: float | None = None, initial: int = 0, **__: object
        ) -> None:
            self._written = 0
            _refuse_more(total or 0, most)
            self.update(initial)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, steps: float | None = 1) -> None:
            self._written += int(steps or 0)
            _refuse_more(self._written, most)
            advance(int(steps or 0))

        def update_transfer(self, steps: float | None = 1) -> None:
            pass

        def set_postfix_str(self, *_: object, **__: object) -> None:
            pass

        def set_transfer_postfix_str(self, *_: object, **__: object) -> None:
            pass

        def refresh(self) -> None:
            pass

        def close(self) -> None:
            pass

    return Bar


def _refuse_more(size: float, most: int) -> None:
    if size > most:
        raise ImplausibleError(
            f"a file of at most {most:,} bytes came with more than that, and was not kept.\n"
            "The Hub lists something else than it sends: don't use what it holds"
        )
