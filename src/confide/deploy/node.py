"""A member's side of runs between organisations: it answers requests, and survives being killed between any two.

A run is kept in a folder of its own, which is a run directory as `confide train` writes it, with this member's part:

    terms                what was offered and accepted
    rounds/0007/         the global adapter after round 7 in PEFT's format; in the newest round also state/
    clients/             keys in use, releases, what is pending: never to be restored from a backup
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from confide.config.schema import Config
from confide.deploy.node_run import NodeRun, Participation, accepted_runs, num_accepted, take_part
from confide.deploy.policy import Policy
from confide.deploy.run_config import node_config, read_offer
from confide.deploy.terms import Terms
from confide.errors import (
    ConfigError,
    DataError,
    KeyFileError,
    MessageError,
    MissingExtraError,
    ModelError,
    RosterError,
    RunDirectoryError,
    StorageError,
)
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.membership.statements import presence_statement
from confide.messages import (
    CatchUpRequest,
    FinishRequest,
    Heading,
    JoinRequest,
    Message,
    OfferReply,
    OfferRequest,
    OpenRequest,
    ReleaseRequest,
    SignRequest,
    StateRequest,
    TrainRequest,
    decode,
    pack_parts,
    read_heading,
)
from confide.train.outcome import StepReport

_RUN_DIGITS = 32

_logger = logging.getLogger(__name__)

PHASES: Mapping[type[Message], str] = {
    OfferRequest: "offer",
    JoinRequest: "offer",
    TrainRequest: "train",
    SignRequest: "sign",
    ReleaseRequest: "release",
    OpenRequest: "open",
    StateRequest: "state",
    CatchUpRequest: "catch-up",
    FinishRequest: "finish",
}
"""What a request is called in a policy and in the log."""

_OWN_MATTERS = (DataError, KeyFileError, ModelError, RunDirectoryError, StorageError, MissingExtraError)
"""Errors that speak of a member's files: the server is told that there was one, and not what it says."""


class Node:
    """Answers a server's requests for one member.

    Args:
        folder: in which each run gets a folder.
        identity: the member's secret keys.
        roster: the member's own copy, whose fingerprint it has compared.
        policy: the least it accepts.
        settings: what it sets for itself in each run's configuration, as "section.key".
        on_step: called with the member's name after each local step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Identity,
        roster: Roster,
        policy: Policy,
        settings: Mapping[str, object],
        on_step: Callable[[str, StepReport], None] | None = None,
    ) -> None:
        self.name = identity.public.name
        if roster.member(self.name) != identity.public:
            raise RosterError(f"the roster has other keys for {self.name} than its identity: compare both fingerprints")
        self.roster = roster
        self._folder = folder
        self._identity = identity
        self._policy = policy
        self._settings = settings
        self._on_step = on_step
        self._run: NodeRun | None = None

    def handle(self, request: bytes) -> bytes:
        """Answers one request.

        Raises:
            PolicyError: the policy does not take it.
            ConfideError: what it asked for failed; nothing of the member's state has changed.
        """
        try:
            heading = read_heading(request)
            phase = PHASES.get(heading.kind)
            if phase is None:
                raise MessageError(f"{self.name} got a {heading.kind.__name__}, which only a server gets")
        except MessageError as error:
            _logger.warning("refused what is no request: %s", error)
            raise
        where = f"round {heading.round_number}" if heading.round_number else "before the first round"
        _logger.info("%s, %s: asked", where, phase)
        try:
            self._policy.check_phase(phase)
            reply = self._answer(request, heading)
        except Exception as error:
            _logger.warning("%s, %s: refused or failed: %s: %s", where, phase, type(error).__name__, error)
            if isinstance(error, _OWN_MATTERS):
                raise MessageError(
                    f"{self.name} cannot answer ({type(error).__name__}); its own log says why"
                ) from None
            raise
        _logger.info("%s, %s: answered with %d bytes", where, phase, len(reply))
        return reply

    def _answer(self, request: bytes, heading: Heading) -> bytes:
        if heading.kind is OfferRequest:
            offer = decode(request)
            assert isinstance(offer, OfferRequest)  # as its heading says
            return self._take(offer)
        at = self._running(heading.run)
        if heading.kind is FinishRequest:
            reply = at.finish(heading.round_number).to_bytes()
            self._run = None
            return reply
        return at.client.handle(request)

    def _take(self, offer: OfferRequest) -> bytes:
        """Takes part in a run, or goes on with it."""
        terms = Terms.from_request(offer)
        at = self._opened(terms)
        model = at.model
        proof = presence_statement(
            run=terms.run, challenge=offer.challenge, roster_digest=self.roster.digest, sender=self.name
        )
        return OfferReply(
            run=terms.run,
            round_number=at.client.state.shared.round_number,
            client=self.name,
            proof=self._identity.sign(proof).hex(),
            base_digest=model.base.digest,
            body=pack_parts({"layout": model.layout.to_json().encode(), "adapter": at.adapter_json().encode()}),
        ).to_bytes()

    def _running(self, run: str) -> NodeRun:
        """The run that a request is for, read from the disk where this process has not had it yet."""
        if self._run is not None and self._run.run == run:
            return self._run
        path = next(iter(self._folder.glob(f"*-{run[:_RUN_DIGITS]}/terms")), None) if run.isalnum() else None
        if path is None:
            raise MessageError(f"{self.name} was not offered the run that this request is of")
        return self._opened(Terms.load(path), run)

    def _opened(self, terms: Terms, run: str | None = None) -> NodeRun:
        if run is not None and terms.run != run:
            raise MessageError(f"{self.name} was not offered the run that this request is of")
        if self._run is not None and self._run.run == terms.run:
            return self._run
        config = self._accepted(terms)
        self._run = None  # its model goes first: two need not fit into memory
        folder = self._folder / f"{config.run.name}-{terms.run[:_RUN_DIGITS]}"
        self._run = take_part(
            folder,
            Participation(
                terms=terms,
                config=config,
                identity=self._identity,
                check_base=lambda digest: self._check(terms, digest),
                on_step=self._on_step,
            ),
        )
        return self._run

    def _accepted(self, terms: Terms) -> Config:
        """The run's configuration at this member; each time the run is opened, as roster and policy may have changed.

        Raises:
            RosterError: the run is of another roster than the member holds now.
            PolicyError: it lies outside the policy, or is one run too many.
            DataError: the member's own settings do not fit.
        """
        if terms.members.digest != self.roster.digest:
            raise RosterError(
                f"the run has another roster than {self.name} holds: {_difference(terms.members, self.roster)}. "
                "Nothing is done. Compare the fingerprints with the other members by telephone"
            )
        self._check(terms, None)
        if terms.run not in accepted_runs(self._folder):
            self._policy.check_new_run(num_accepted(self._folder))
        offered = read_offer(terms.config)
        try:
            return node_config(offered, self._settings)
        except ConfigError as error:
            raise DataError(str(error)) from error

    def _check(self, terms: Terms, base_digest: str | None) -> None:
        """Holds a run against the policy.

        Raises:
            PolicyError: it lies outside.
        """
        offered = read_offer(terms.config)
        self._policy.check(offered, num_members=len(terms.members.names), base_digest=base_digest)


def _difference(offered: Roster, own: Roster) -> str:
    added = sorted(set(offered.names) - set(own.names))
    missing = sorted(set(own.names) - set(offered.names))
    changed = sorted(name for name in set(own.names) & set(offered.names) if offered.member(name) != own.member(name))
    found = [("it adds", added), ("it lacks", missing), ("it has other keys for", changed)]
    return "; ".join(f"{what} {', '.join(names[:10])}" for what, names in found if names)
