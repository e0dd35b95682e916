"""The Hub that a command talks to: where it is, who asks, and what its refusals mean."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Client:
    """A Hub and a token; None means what huggingface_hub finds (HF_ENDPOINT, the saved login)."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
