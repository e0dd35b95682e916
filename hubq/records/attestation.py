"""What a release says of its making, in the words of in-toto and SLSA.

An in-toto Statement (v1) about every file of the release, with SLSA's provenance (v1) as its
predicate: what it was made of, by which program, on which kind of machine. The keys in the file are
those of the two specifications, in camelCase; what SLSA has no key for begins with `hubq_`. A time
is not among them: the same run makes the same bytes.
"""

from collections.abc import Set
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from hubq.errors import UserError
from hubq.records.record import Record
from hubq.records.run_folder import ATTESTATION, record_in

STATEMENT: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PROVENANCE: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
MOST_BYTES = 32_000_000  # of a statement: 100,000 files take half of that
Text = Annotated[str, StringConstraints(max_length=4096)]
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{40,128}$")]


class Part(Record):
    """A part of a statement: its keys are written in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Resource(Part):
    """in-toto's ResourceDescriptor: a file, or something that the release was made of."""

    name: Text | None = None  # of a file: its path in the repo
    uri: Text | None = None
    digest: dict[Text, Digest] = Field(
        default={}, description="by algorithm: sha256, or gitCommit of a repo"
    )


class Signer(Part):
    """Who signs the files of a release, as far as that is known before it is done."""

    how: Literal["key", "identity", "none"]
    # Of a key the sha256 of its public half as PEM, 64 hex digits; of an identity its address.
    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f`]{0,512}$")] = ""


UNSIGNED = Signer(how="none")


class Machine(Part):
    """Where a part of the work was done: the kind of machine, never whose."""

    device: Text  # the processor's or GPU's name
    threads: int | None = None  # None: a GPU, or not told
    dtype: Text | None = None  # in which the model ran; None: it did not run
    versions: dict[Text, Text]  # of python and the libraries


class Internal(Part):
    """What the maker's machine decided: SLSA's internalParameters."""

    weights_dtype: Text  # of the base, as stored
    made: Machine
    adapted: Machine | None = None
    measured: Machine
    seed: int  # of the measurements; all others are in the recipe


class External(Part):
    """What the maker decided: SLSA's externalParameters."""

    recipe: Resource
    repo: Text  # org/name that it was made for


class BuildDefinition(Part):
    """What the release was made of, and how."""

    build_type: Literal["urn:hubq:recipe:v1"] = "urn:hubq:recipe:v1"
    external_parameters: External
    internal_parameters: Internal
    resolved_dependencies: tuple[Resource, ...]  # base, data sets, wheels


class Builder(Part):
    """The program that made it."""

    id: Literal["urn:hubq"] = "urn:hubq"
    version: dict[Text, Text]


class Metadata(Part):
    """What else is known of the run."""

    signer: Signer = Field(alias="hubq_signer")


class RunDetails(Part):
    """Who made it."""

    builder: Builder
    metadata: Metadata


class Provenance(Part):
    """SLSA's predicate."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(Part):
    """The whole file `hubq/attestation.json`."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(STATEMENT, alias="_type")
    subject: tuple[Resource, ...] = Field(max_length=100_000)  # every file but this and its seal
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = PROVENANCE
    predicate: Provenance

    @property
    def files(self) -> dict[str, str]:
        """The sha256 of each file by its path in the repo."""
        return {str(each.name): each.digest.get("sha256", "") for each in self.subject}

    @property
    def signer(self) -> Signer:
        """Who was to sign."""
        return self.predicate.run_details.metadata.signer

    def with_files(self, changed: dict[str, str], removed: Set[str] = frozenset()) -> Self:
        """Return the statement about a release in which files were replaced, added or removed."""
        kept = {path: digest for path, digest in self.files.items() if path not in removed}
        return self.model_copy(update={"subject": subject({**kept, **changed})})

    def written(self) -> bytes:
        """Return the file's bytes, the same for the same values."""
        written = self.model_dump_json(by_alias=True, exclude_none=True, indent=2)
        return (written + "\n").encode()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a statement that anybody may have written; raise UserError for what is none."""
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path.name} has {path.stat().st_size:,} bytes, too many for one")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors()[:3])
            raise UserError(
                f"{path.name} is no statement on the making of a release that this version of hubq "
                f"knows ({where})"
            ) from error


def subject(files: dict[str, str]) -> tuple[Resource, ...]:
    """Name files, given as path -> sha256, as the subject of a statement."""
    return tuple(
        Resource(name=path, digest={"sha256": digest}) for path, digest in sorted(files.items())
    )


def signer_in(folder: Path) -> Signer | None:
    """Return who signs what lies in a folder of a run, a card or a repo; None: it is not attested.

    Raises UserError for an attestation that can't be read.
    """
    path = record_in(folder, ATTESTATION)
    return None if path is None else Statement.load(path).signer
