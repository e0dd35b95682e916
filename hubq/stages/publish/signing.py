"""Sign a release with model-signing (OpenSSF), by a key of the user's or by an identity.

The signature is of every file, the attestation among them, so that one check covers both; anybody
checks it with `model_signing verify`, without hubq. A key is read by the library alone: its content
and its passphrase are in no record, no message and no file of hubq's.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.client.repo_files import LocalFile
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.records.attestation import UNSIGNED, Signer
from hubq.records.run_folder import SIGNATURE
from hubq.records.signature import Signature, read_signature

if TYPE_CHECKING:
    from model_signing.signing import Config

KEY, PASSPHRASE, IDENTITY = VARIABLES = (
    "HUBQ_SIGNING_KEY",
    "HUBQ_SIGNING_PASSPHRASE",
    "HUBQ_SIGNING_IDENTITY",
)
EXTRA = "pip install 'hubq[sign]'"
# What lies beside the signed files: the signature, and what downloads leave.
BESIDE = (SIGNATURE, ".cache")
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # that model-signing takes


@dataclass(frozen=True)
class Signing:
    """By what a release is signed; by nothing where both are None."""

    key: Path | None = None
    identity: str | None = None  # an e-mail address, or the address of a workflow

    @cached_property
    def signer(self) -> Signer:
        """Who signs; raise UserError for a key that can't."""
        if self.key is not None:
            return Signer(how="key", name=_fingerprint(self.key))
        if self.identity is not None:
            require_library()
            return Signer(how="identity", name=self.identity)
        return UNSIGNED

    def signed(self, files: Mapping[str, LocalFile], run: Path) -> LocalFile | None:
        """Return the signature of these files; None where nothing signs.

        One that the run folder holds is kept if it is of just these files and of the same signer: a
        signature is another each time that it is made.
        """
        place = run / SIGNATURE
        if self.signer == UNSIGNED:
            place.unlink(missing_ok=True)
            return None
        wanted = {path: file.sha256 for path, file in files.items()}
        if not (place.is_file() and self._is_ours(place, wanted)):
            write_atomically(place, self._sign(files))
            self._require_ours(place, wanted)
        return LocalFile(place)

    def _is_ours(self, place: Path, wanted: Mapping[str, str]) -> bool:
        """Tell whether a signature is of these files and of this signer."""
        try:
            found = read_signature(place)
        except UserError:
            return False
        return found.files == wanted and signer_of(found) == self.signer

    def _require_ours(self, place: Path, wanted: Mapping[str, str]) -> None:
        """Refuse a signature that somebody else made than the card names."""
        if self._is_ours(place, wanted):
            return
        found = signer_of(read_signature(place))
        place.unlink()
        raise UserError(
            f"the release was signed by {found.name if found else 'nobody known'}, and not by "
            f"{self.signer.name}: set {IDENTITY} to who signs; nothing was uploaded"
        )

    def _sign(self, files: Mapping[str, LocalFile]) -> bytes:
        """Return a signature of these files, which are hashed once more for it."""
        require_library()
        from model_signing import hashing
        from sigstore.errors import Error

        told = hashing.Config().set_allow_symlinks(True)
        told.set_ignored_paths(paths=BESIDE, ignore_git_paths=True)
        with tempfile.TemporaryDirectory(prefix="hubq-signing-") as place:
            folder, signature = Path(place, "release"), Path(place, SIGNATURE)
            for path, file in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).symlink_to(file.path.absolute())
            try:
                self._config().set_hashing_config(told).sign(folder, signature)
            except Error as error:
                raise UserError(f"Sigstore gave no signature: {error}") from error
            return signature.read_bytes()

    def _config(self) -> "Config":
        """Tell model-signing who signs; an identity is asked for by the ways that Sigstore has."""
        from model_signing import signing

        if self.key is not None:
            return signing.Config().use_elliptic_key_signer(
                private_key=self.key, password=_passphrase()
            )
        return signing.Config().use_sigstore_signer(use_ambient_credentials=True)


def signing_of_environment() -> Signing:
    """Return by what the environment says that releases are signed."""
    key, identity = os.environ.get(KEY), os.environ.get(IDENTITY)
    if key and identity:
        raise UserError(f"{KEY} and {IDENTITY} are both set: a release is signed by one of them")
    return Signing(Path(key).expanduser() if key else None, identity or None)


@contextmanager
def signing_by(key: Path | None, identity: str | None) -> Iterator[None]:
    """Let releases be signed by what a command names, and by the environment where it doesn't.

    Raises UserError for a key that can't be used, hours before it is.
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    if key or identity:
        _become({KEY: str(key) if key else None, IDENTITY: identity})
    try:
        _ = signing_of_environment().signer
        yield
    finally:
        _become(before)


def _become(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def signer_of(signature: Signature) -> Signer | None:
    """Say whose a signature claims to be; None: it does not say, or what says so can't be read."""
    if signature.key is not None:
        return Signer(how="key", name=signature.key)
    if signature.certificate is None:
        return None
    name = _identity(signature.certificate)
    return None if name is None else Signer(how="identity", name=name)


def _identity(certificate: bytes) -> str | None:
    """Return the address that a certificate of Sigstore is about."""
    try:
        from cryptography import x509
    except ImportError:
        return None
    try:
        names = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return None
    found: list[Any] = [each.value for each in names.value]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def _fingerprint(key: Path) -> str:
    """Return the sha256 of a key's public half as PEM, as signatures name it."""
    require_library()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    if not key.is_file():
        raise UserError(f"there is no key {key}; {KEY} or --sign-key names its file")
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), _passphrase())
    except (ValueError, TypeError) as error:  # whose texts may quote what they read
        raise UserError(
            f"{key} can't be read as a private key in PEM. Is it encrypted? Then set {PASSPHRASE}"
        ) from error
    if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name not in CURVES:
        raise UserError(
            f"{key} is no key of an elliptic curve that model-signing takes. Make one:\n"
            "  openssl ecparam -name prime256v1 -genkey -noout -out signing.key"
        )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(public).hexdigest()


def _passphrase() -> Any:  # noqa: ANN401 - model-signing says text, and hands it on as bytes
    """Return the key's passphrase; None: the key is not encrypted."""
    found = os.environ.get(PASSPHRASE)
    return None if found is None else found.encode()


def require_library() -> None:
    """Raise UserError where model-signing is not installed."""
    try:
        import model_signing  # noqa: F401 - it is there or not
    except ImportError as error:
        raise UserError(f"signing needs model-signing, which is not installed: {EXTRA}") from error
