"""The terms of a run between organisations: what the server offers, and what the run's id stands for."""

import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from confide.errors import MessageError, RosterError, RunDirectoryError
from confide.files import write_atomic
from confide.membership.roster import Roster
from confide.membership.statements import run_commitment
from confide.messages import OfferRequest, pack_parts, unpack_parts

_NONCE_BYTES = 16
_MAX_CONFIG_BYTES = 1 << 20
_MAX_NONCE_CHARACTERS = 128
_PARTS = {"config", "roster", "nonce"}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a run is: its configuration, its members, and a random nonce that no other run has.

    Attributes:
        config: the configuration as TOML, without what each member sets for itself.
        roster: the members, as `Roster.to_json` gives them.
        nonce: random, in hexadecimal.

    Raises:
        MessageError: the configuration or the nonce is too long, or the roster is none.
    """

    config: bytes
    roster: bytes
    nonce: str

    def __post_init__(self) -> None:
        if len(self.config) > _MAX_CONFIG_BYTES or len(self.nonce) > _MAX_NONCE_CHARACTERS:
            raise MessageError(
                f"the configuration on offer has more than {_MAX_CONFIG_BYTES} bytes, or its nonce too many"
            )
        try:
            _ = self.members
        except RosterError as error:
            raise MessageError(f"an offered roster cannot be read: {error}") from error

    @classmethod
    def new(cls, config_toml: str, roster: Roster) -> "Terms":
        """The terms of a new run."""
        nonce = secrets.token_hex(_NONCE_BYTES)
        return cls(config=config_toml.encode(), roster=roster.to_json().encode(), nonce=nonce)

    @cached_property
    def members(self) -> Roster:
        """The members."""
        return Roster.from_json(self.roster, what="the offered roster")

    @cached_property
    def run(self) -> str:
        """The run's id: it stands for these terms, so that whatever is signed for the run is signed for them."""
        return run_commitment(config=self.config, roster_digest=self.members.digest, nonce=self.nonce)

    def to_request(self, challenge: str) -> OfferRequest:
        """The message that offers them."""
        parts = {"config": self.config, "roster": self.roster}
        return OfferRequest(run=self.run, round_number=0, nonce=self.nonce, challenge=challenge, body=pack_parts(parts))

    @classmethod
    def from_request(cls, request: OfferRequest) -> "Terms":
        """Reads an offer.

        Raises:
            MessageError: it is malformed, or the run's id does not stand for these terms.
        """
        parts = unpack_parts(request.body)
        if parts.keys() != {"config", "roster"}:
            raise MessageError("an offer has the parts config and roster")
        terms = cls(config=parts["config"], roster=parts["roster"], nonce=request.nonce)
        if terms.run != request.run:
            raise MessageError(
                "the id of the offered run does not stand for the offered terms: the server changed one of them. Ask "
                "who runs it"
            )
        return terms

    def save(self, path: Path) -> None:
        """Writes them into a file.

        Raises:
            StorageError: it cannot be written.
        """
        write_atomic(path, pack_parts({"config": self.config, "roster": self.roster, "nonce": self.nonce.encode()}))

    @classmethod
    def load(cls, path: Path) -> "Terms":
        """Reads what `save` wrote.

        Raises:
            RunDirectoryError: the file is missing or damaged.
        """
        try:
            parts = unpack_parts(path.read_bytes())
            if parts.keys() != _PARTS:
                raise MessageError("parts are missing")
            return cls(config=parts["config"], roster=parts["roster"], nonce=parts["nonce"].decode())
        except (OSError, MessageError, UnicodeDecodeError) as error:
            raise RunDirectoryError(f"the terms of the run in {path} cannot be read: {error}") from error
