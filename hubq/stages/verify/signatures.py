"""Check a signature with model-signing, and learn which files it is of."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.stages.publish.signing import require_library
from hubq.stages.verify.findings import BROKEN
from hubq.stages.verify.gather import Trust

if TYPE_CHECKING:
    from model_signing.verifying import Config


class _Listed:
    """Stands for the files of a release while a signature is checked; remembers what was signed.

    The library compares the files with those that were signed once it knows that the signature is
    true. This one equals whatever was signed, so that all the comparing is done in one place, by
    the Hub's hashes too.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def __eq__(self, signed: Any) -> bool:  # noqa: ANN401 - a manifest of model-signing
        for each in signed.resource_descriptors():
            digest = each.digest
            self.files[each.identifier] = (
                digest.digest_hex if digest.algorithm == "sha256" else digest.algorithm
            )
        return True

    __hash__ = None  # type: ignore[assignment]


def verified_files(signature: Path, trust: Trust) -> Mapping[str, str]:
    """Return the sha256 of each signed file by its path.

    Raises UserError for a signature that isn't one of who is trusted.
    """
    require_library()
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from model_signing import hashing
    from sigstore.errors import Error

    listed = _Listed()

    class Known(hashing.Config):  # type: ignore[misc]
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> _Listed:  # noqa: ANN401
            return listed

    config = _config(trust)
    try:
        config.set_hashing_config(Known()).verify(signature.parent, signature)
    except (InvalidSignature, UnsupportedAlgorithm, Error, *BROKEN) as error:
        whom = trust.identity or trust.key
        raise UserError(
            f"the signature is not one of {whom}: {str(error)[:200] or type(error).__name__}"
        ) from error
    return listed.files


def _config(trust: Trust) -> "Config":
    """Tell model-signing who is trusted."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from model_signing import verifying

    if trust.identity is not None:
        return verifying.Config().use_sigstore_verifier(
            identity=trust.identity, oidc_issuer=trust.issuer
        )
    assert trust.key is not None, "somebody is trusted"
    try:
        return verifying.Config().use_elliptic_key_verifier(public_key=trust.key)
    except (OSError, ValueError, AttributeError, UnsupportedAlgorithm) as error:
        raise UserError(
            f"{trust.key} can't be read as the public half of a key, in PEM. Make it:\n"
            "  openssl pkey -in signing.key -pubout -out signing.pub"
        ) from error
