"""What a Space has beside its files: hardware, variables and secrets, set through the API only."""

import os
from dataclasses import dataclass, field
from hashlib import sha256

from hubq.client.client import Client
from hubq.errors import UserError, did_you_mean

FREE = "cpu-basic"  # what a Space has as long as nobody asked for more
TOKEN = "HF_TOKEN"  # the secret's name, which huggingface_hub reads


@dataclass(frozen=True)
class Settings:
    """What a Space is to have; what is None stays as it is."""

    org: str
    private: bool = False
    hardware: str | None = None
    token: str | None = field(default=None, repr=False)  # becomes the secret HF_TOKEN
    votes: str | None = None  # the data set repo that keeps visitors' votes
    static: bool = False  # numbers, charts and cards only: a page that costs nothing

    @property
    def variables(self) -> dict[str, str]:
        """The variables that the app reads."""
        votes = {} if self.votes is None else {"HUBQ_SPACE_VOTES": self.votes}
        return {"HUBQ_SPACE_ORG": self.org, **votes}


def token_from(variable: str) -> str:
    """Return the token that an environment variable holds: none is ever typed as an argument."""
    if not (token := os.environ.get(variable, "").strip()):
        raise UserError(
            f"the environment variable {variable} is empty: set it to a token that may read the "
            "organization's models (and write to the repo of votes, if there is one), nothing more"
        )
    return token


def require_known(hardware: str) -> None:
    """Raise UserError for hardware that the Hub doesn't have."""
    from huggingface_hub import SpaceHardware

    known = [each.value for each in SpaceHardware]
    if hardware not in known:
        raise UserError(f"there is no hardware {hardware}; {did_you_mean(hardware, known)}")


def hardware_of(name: str, client: Client) -> str:
    """Return the hardware that a Space has, or has asked for."""
    runtime = client.retries.call(lambda: client.api().get_space_runtime(name))
    found = runtime.requested_hardware or runtime.hardware
    return FREE if found is None else str(getattr(found, "value", found))


def settle(name: str, settings: Settings, client: Client) -> None:
    """Set what differs. A secret can't be read: its description tells whether it is another."""
    api = client.api()
    known = client.retries.call(lambda: api.get_space_variables(name))
    for key, value in settings.variables.items():
        if key not in known or known[key].value != value:
            api.add_space_variable(name, key, value)
    if settings.token is None:
        return
    wanted = f"Reads private models, keeps votes. Fingerprint {fingerprint(name, settings.token)}."
    secret = client.retries.call(lambda: api.get_space_secrets(name)).get(TOKEN)
    if secret is None or secret.description != wanted:
        api.add_space_secret(name, TOKEN, settings.token, description=wanted)


def fingerprint(name: str, token: str) -> str:
    """Return what tells a Space's token from another, and from which none can be found."""
    return sha256(f"{name}\n{token}".encode()).hexdigest()[:12]


def reads_private(name: str, client: Client) -> bool:
    """Tell whether a Space has a token, given now or before."""
    return TOKEN in client.retries.call(lambda: client.api().get_space_secrets(name))


def request(name: str, settings: Settings, client: Client) -> str:
    """Ask for the wanted hardware where the Space has other; return what it is to have."""
    has = hardware_of(name, client)
    if settings.hardware is None or settings.hardware == has:
        return has
    client.api().request_space_hardware(name, settings.hardware)  # type: ignore[arg-type]
    return settings.hardware
