"""Signatures by a key of an elliptic curve: made, kept, checked, and found wrong."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from attested_release import REPO, changed, laid_out, measured_run, released
from unloaded import publish

from hubq.client.client import Client
from hubq.client.repo_files import LocalFile
from hubq.errors import UserError
from hubq.records.attestation import UNSIGNED, Signer
from hubq.records.report import Report
from hubq.records.signature import Signature
from hubq.stages.publish.signing import (
    IDENTITY,
    KEY,
    PASSPHRASE,
    Signing,
    signer_of,
    signing_by,
    signing_of_environment,
)
from hubq.stages.verify.file_checks import signature
from hubq.stages.verify.findings import Finding, applied
from hubq.stages.verify.gather import Trust, folder_subject, repo_subject
from hubq.stages.verify.verify import verify

NOBODY = Client("http://127.0.0.1:9")  # nobody listens there


def key_in(folder: Path, name: str = "signing", passphrase: str | None = None) -> Path:
    """Make a key, and its public half beside it."""
    pytest.importorskip("model_signing", reason="signing is an extra: pip install 'hubq[sign]'")
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    sealed = (
        forms.BestAvailableEncryption(passphrase.encode()) if passphrase else forms.NoEncryption()
    )
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, sealed)
    public = key.public_key().public_bytes(
        forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.pub").write_bytes(public)
    return folder / f"{name}.key"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return key_in(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return measured_run(tmp_path / "run")


@pytest.fixture
def signed(key: Path, report: Report, tmp_path: Path) -> Path:
    """Lay a signed release out."""
    return laid_out(released(report, tmp_path / "run", Signing(key)), tmp_path / "repo")


def public(key: Path) -> Path:
    return key.with_suffix(".pub")


def checked(folder: Path, trust: Trust) -> Finding:
    return applied(signature, folder_subject(folder, NOBODY, trust))


def test_a_signed_release_is_verified_by_the_public_key(signed: Path, key: Path) -> None:
    found = verify(folder_subject(signed, NOBODY, Trust(key=public(key), required=True)))

    assert found.failed == ()
    (one,) = (each for each in found.findings if each.check == "signature")
    assert (one.status, "by key" in one.reason) == ("ok", True)


def test_model_signing_verifies_it_without_hubq(signed: Path, key: Path) -> None:
    words = ["verify", "key", str(signed), "--signature", str(signed / "model.sig")]
    command = [sys.executable, "-m", "model_signing", *words, "--public_key", str(public(key))]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (0, "Verification succeeded\n"), ended.stderr


def test_the_card_names_the_key_and_how_to_check_it(signed: Path, key: Path) -> None:
    card = (signed / "README.md").read_text()

    assert Signing(key).signer.name in card
    assert f"hubq verify {REPO} --key FILE" in card


def test_another_key_is_found(signed: Path, tmp_path: Path) -> None:
    other = key_in(tmp_path, "other")

    found = checked(signed, Trust(key=public(other)))

    assert found.status == "failed"
    assert "is not one of" in found.reason


@pytest.mark.parametrize("path", ["model.safetensors", "README.md", "hubq/attestation.json"])
def test_a_file_that_was_changed_after_it_was_signed_is_found(
    signed: Path, key: Path, path: str
) -> None:
    with (signed / path).open("ab") as file:
        file.write(b" ")

    found = checked(signed, Trust(key=public(key)))

    assert (found.status, found.reason) == ("failed", f"{path} was changed")


def test_a_list_that_was_changed_after_it_was_signed_is_found(signed: Path, key: Path) -> None:
    import json
    from base64 import b64decode, b64encode

    path = signed / "model.sig"
    bundle = json.loads(path.read_bytes())
    payload = b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"README.md", b"readme.md")
    changed(path, "dsseEnvelope", "payload", value=b64encode(payload).decode())

    assert checked(signed, Trust(key=public(key))).status == "failed"


def test_a_signature_that_was_taken_away_is_found(signed: Path) -> None:
    (signed / "model.sig").unlink()

    found = checked(signed, Trust())

    assert found.status == "failed"
    assert "model.sig is missing: key" in found.reason


def test_a_signature_is_only_said_to_be_one_without_a_key(signed: Path, key: Path) -> None:
    found = checked(signed, Trust())

    assert (found.status, Signing(key).signer.name in found.reason) == ("unknown", True)


def test_a_signature_is_kept_until_what_it_signs_changes(
    key: Path, report: Report, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def made(files: Mapping[str, LocalFile]) -> bytes:
        return files["model.sig"].path.read_bytes()

    first = made(released(report, run, Signing(key)))
    again = made(released(report, run, Signing(key)))
    other = made(released(report, run, Signing(key_in(tmp_path, "other"))))

    assert first == again
    assert first != other


def test_publishing_twice_with_a_key_makes_no_second_commit(
    key: Path, report: Report, tmp_path: Path, client: Client
) -> None:
    with signing_by(key, None):
        first = publish(report, tmp_path / "run", client)
        second = publish(report, tmp_path / "run", client)

    found = verify(repo_subject(REPO, client, Trust(key=public(key), required=True)))
    assert first.commit == second.commit
    assert "model.sig" in first.files
    assert found.failed == ()


def test_an_encrypted_key_signs_with_its_passphrase(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_in(tmp_path, "sealed", "open sesame")
    with pytest.raises(UserError, match=PASSPHRASE):
        _ = Signing(key).signer
    monkeypatch.setenv(PASSPHRASE, "open sesame")

    folder = laid_out(released(report, tmp_path / "run", Signing(key)), tmp_path / "repo")

    assert checked(folder, Trust(key=public(key))).status == "ok"
    assert b"sesame" not in b"".join(each.read_bytes() for each in folder.rglob("*.json"))


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason="signing is an extra: pip install 'hubq[sign]'")
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = tmp_path / "signing.key"
    key = Ed25519PrivateKey.generate()
    form = (forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    path.write_bytes(key.private_bytes(*form))

    with pytest.raises(UserError, match="no key of an elliptic curve"):
        _ = Signing(path).signer


def test_a_public_key_that_is_none_is_refused(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "none.pub").write_text("none")

    found = checked(signed, Trust(key=tmp_path / "none.pub"))

    assert "can't be read as the public half" in found.reason


def test_nothing_signs_unless_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEY, IDENTITY):
        monkeypatch.delenv(name, raising=False)

    assert signing_of_environment().signer == UNSIGNED


def test_an_identity_signs_under_its_own_name() -> None:
    pytest.importorskip("model_signing", reason="signing is an extra: pip install 'hubq[sign]'")
    with signing_by(None, "ann@acme.org"):
        found = signing_of_environment().signer

    assert found == Signer(how="identity", name="ann@acme.org")


def certified(name: str) -> bytes:
    """Return a certificate like those that Sigstore gives to an identity."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, begin, end)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    content: bytes = certificate.public_bytes(Encoding.DER)
    return content


def test_the_identity_of_a_signature_is_read_from_its_certificate() -> None:
    pytest.importorskip("model_signing", reason="signing is an extra: pip install 'hubq[sign]'")

    found = signer_of(Signature({}, None, certified("ann@acme.org")))

    assert found == Signer(how="identity", name="ann@acme.org")
    assert signer_of(Signature({}, None, b"no certificate")) is None


@pytest.mark.skipif(find_spec("model_signing") is not None, reason="model-signing is installed")
def test_signing_without_the_library_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pip install 'hubq\[sign\]'"), signing_by(tmp_path, None):
        pass


def test_a_key_and_an_identity_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "signing.key")
    monkeypatch.setenv(IDENTITY, "ann@acme.org")

    with pytest.raises(UserError, match="both set"):
        signing_of_environment()


def test_a_signature_that_is_gone_stale_is_not_published(report: Report, tmp_path: Path) -> None:
    (tmp_path / "run" / "model.sig").write_text("of before")

    files = released(report, tmp_path / "run")

    assert "model.sig" not in files
    assert not (tmp_path / "run" / "model.sig").exists()
