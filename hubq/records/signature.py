"""The signature of a release as it lies in its repo: of which files it is, and whose.

OpenSSF's model-signing writes `model.sig`, a Sigstore bundle whose payload is an in-toto statement:
a list of files with their sha256. Reading it proves nothing; `hubq/stages/verify` does.
"""

import binascii
from base64 import b64decode
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from hubq.errors import UserError

MOST_BYTES = 64_000_000  # base64 of a list of 100,000 files
Text = Annotated[str, StringConstraints(max_length=4096)]


class Part(BaseModel):
    """A part of a bundle: what isn't named here is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class File(Part):
    """A file that was signed."""

    name: Text
    algorithm: Text
    digest: Text


class Predicate(Part):
    """All files that were signed."""

    resources: tuple[File, ...] = Field(max_length=100_000)


class Payload(Part):
    """What was signed."""

    predicate_type: Literal["https://model_signing/signature/v1.0"]
    predicate: Predicate


class Envelope(Part):
    """What was signed, as text."""

    payload: str


class KeyHint(Part):
    """Which key signed, as far as the bundle says."""

    hint: Text = ""


class Certificate(Part):
    """A certificate that Sigstore gave to an identity."""

    raw_bytes: str


class Material(Part):
    """By what the signature is to be checked."""

    public_key: KeyHint | None = None
    certificate: Certificate | None = None


class Bundle(Part):
    """The whole file."""

    dsse_envelope: Envelope
    verification_material: Material


class Signature(NamedTuple):
    """What a signature says, whether it is true or not."""

    files: dict[str, str]  # path -> sha256
    key: str | None  # sha256 of the public key as PEM, 64 hex digits
    certificate: bytes | None  # of an identity, as DER


def read_signature(path: Path) -> Signature:
    """Read a signature that anybody may have written; raise UserError for what is none."""
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path.name} has {path.stat().st_size:,} bytes, too many for a signature")
    try:
        bundle = Bundle.model_validate_json(path.read_bytes())
        payload = Payload.model_validate_json(_decoded(bundle.dsse_envelope.payload))
        found = bundle.verification_material.certificate
        certificate = None if found is None else _decoded(found.raw_bytes)
    except (ValidationError, binascii.Error) as error:
        raise UserError(f"{path.name} is no signature that model-signing makes") from error
    material = bundle.verification_material.public_key
    files = payload.predicate.resources
    return Signature(
        # What was hashed otherwise is listed, but equals no sha256.
        {each.name: each.digest if each.algorithm == "sha256" else "" for each in files},
        None if material is None else material.hint or None,
        certificate,
    )


def _decoded(text: str) -> bytes:
    return b64decode(text.encode("ascii", "replace"), validate=True)
