"""A bar for huggingface_hub's downloads that draws nothing and reports to a Progress."""

from typing import Any

from hubq.progress import Advance


def bar(advance: Advance) -> Any:  # noqa: ANN401 - huggingface_hub wants a subclass of tqdm's class
    """Return a class in the place of tqdm: each byte on the disk advances once.

    huggingface_hub uses just these methods of a bar; it tells apart what came over the network
    (`update_transfer`) and what was written (`update`).
    """

    class Bar:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            advance(initial)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, steps: float | None = 1) -> None:
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
