"""A client's part in opening sums: what it does with its secret keys, and for which lists of members.

A round's sum opens with the sum of its members' one-time keys, which no party holds. Every client keeps a share of
every member's key; it adds the shares of the members of one list and releases that sum, once per round and for one list
only. With `threshold` of them anybody who has the sealed sum could open it, so they travel encrypted under a group key
that the members give to clients and not to the server.
"""

import hashlib
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confide.errors import MessageError
from confide.membership.envelope import open_envelope, seal_envelope
from confide.membership.groupkey import combine_key_parts, decrypt_for_group, encrypt_for_group, new_key_part
from confide.membership.identity import Identity
from confide.membership.ledger import ReleaseLedger
from confide.membership.memberlist import MOST_DILUTION, Entry, MemberList
from confide.membership.release import check_release, share_context, statement_of_release
from confide.membership.roster import SIGNATURE_BYTES, Roster
from confide.membership.statements import adapter_statement, envelope_context, member_list_statement
from confide.membership.tried import TriedSums
from confide.seal.scheme import ClientSealing, SealContext, SealingRound

_SHARE, _GROUP, _STATE = "share", "group", "state"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a client knows by itself about a round, for a list of members to agree with.

    Attributes:
        entry: what it uploaded; None if it did not.
        reference_weight: as the server announced it to this client; None if it was not asked to train.
    """

    context: SealContext
    entry: Entry | None
    reference_weight: float | None


class KeyHolder:
    """One client's keys at work.

    Args:
        identity: this client's.
        roster: of the federation, checked out of band.
        ledger: remembers releases, also after a restart.
        tried: remembers which sums were tried, also after a restart; in memory if not given.
        min_clients: a sum of fewer members is never opened.
        threshold: how many clients must have signed for an adapter before one that was away takes it.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        roster: Roster,
        ledger: ReleaseLedger,
        sealing: ClientSealing,
        min_clients: int,
        threshold: int,
        tried: TriedSums | None = None,
    ) -> None:
        self.name = identity.public.name
        self.roster = roster
        self._identity = identity
        self._ledger = ledger
        self._sealing = sealing
        self._min_clients = min_clients
        self._threshold = threshold
        self._tried = tried or TriedSums()

    @property
    def point(self) -> int:
        """This client's number in the roster, from 1."""
        return self.roster.point_of(self.name)

    def sign(self, statement: bytes) -> bytes:
        """This client's signature under a statement."""
        return self._identity.sign(statement)

    def address(self, context: SealContext, sealing: SealingRound) -> dict[str, bytes]:
        """Envelopes for everybody in the roster: a share of the round key, and a part of the round's group key.

        Returns:
            "share NAME" and "group NAME" for every name; nothing in a scheme without round keys.
        """
        part = new_key_part()
        envelopes = {}
        for name, share in sealing.shares().items():
            for purpose, secret in ((_SHARE, share), (_GROUP, part)):
                about = self._context(purpose, context, sender=self.name, recipient=name, key_id=sealing.key_id)
                envelopes[f"{purpose} {name}"] = seal_envelope(self._identity, self.roster.member(name), secret, about)
        return envelopes

    def sign_list(self, members: MemberList, expected: Expected) -> bytes:
        """Signs a list that this client is in.

        Raises:
            MessageError: the list is not of this round, or not right about this client.
        """
        self._check(members, expected)
        if expected.entry is None or expected.entry not in members.entries:
            raise MessageError(f"client {self.name} signs no list of members that does not hold its own upload")
        return self.sign(member_list_statement(members.to_bytes()))

    def release(
        self,
        members: MemberList,
        signatures: Mapping[str, bytes],
        envelopes: Mapping[str, bytes],
        expected: Expected,
    ) -> bytes:
        """Releases this client's share of the members' summed key, for one list per round.

        Args:
            members: the list.
            signatures: of every member under it.
            envelopes: "share NAME" and "group NAME" for every member, as NAME addressed them to this client.
            expected: of the list.

        Returns:
            A signature, and the share encrypted for the clients.

        Raises:
            MessageError: the list is wrong, not signed by all its members, or an envelope is.
            SealError: a share is malformed.
            SecretKeyError: this client released in this round already, for other members or with one of these keys.
        """
        self._check(members, expected)
        for entry in members.entries:
            if entry.client not in signatures:
                raise MessageError(f"the list of members is not signed by {entry.client}")
            self.roster.verify(entry.client, member_list_statement(members.to_bytes()), signatures[entry.client])
        shares = [self._open(_SHARE, entry, envelopes, expected.context) for entry in members.entries]
        group_key = self._group_key(members, envelopes, expected.context)
        summed = self._sealing.add_shares(shares)
        self._ledger.claim(members)
        sealed = encrypt_for_group(group_key, summed, share_context(members, self.name))
        return self.sign(statement_of_release(members, self.name, sealed)) + sealed

    def read_released(
        self, members: MemberList, released: Mapping[str, bytes], envelopes: Mapping[str, bytes], expected: Expected
    ) -> dict[int, bytes]:
        """Decrypts released shares; one that is not its holder's is left out, with a warning.

        Args:
            members: the list they were released for.
            released: by who released.
            envelopes: "group NAME" for every member, as NAME addressed them to this client.
            expected: of the list.

        Returns:
            Shares of the summed key (secret) by their holder's point in the roster; none in a scheme without.

        Raises:
            MessageError: the list is wrong, or so many shares are left out that too few remain.
        """
        self._check(members, expected)
        if not self._sealing.needs_release:
            return {}
        group_key = self._group_key(members, envelopes, expected.context)
        shares, wrong = {}, []
        for name, body in released.items():
            try:
                check_release(self.roster, members, name, body)
                share = decrypt_for_group(group_key, body[SIGNATURE_BYTES:], share_context(members, name))
            except MessageError as error:
                _logger.warning("client %s leaves out the share that %s released: %s", self.name, name, error)
                wrong.append(f"{name}: {error}")
                continue
            shares[self.roster.point_of(name)] = share
        if wrong and len(shares) < self._threshold:
            raise MessageError(
                f"{len(shares)} of {len(released)} released shares can be read, {self._threshold} are needed to open. "
                f"Wrong are those of {'; '.join(wrong)}"
            )
        return shares

    def sign_adapter(self, run: str, round_number: int, adapter_digest: str) -> bytes:
        """Signs for the global adapter that this client computed itself."""
        return self.sign(self._adapter_statement(run, round_number, self.name, adapter_digest))

    def check_adapter(self, run: str, round_number: int, adapter_digest: str, signatures: Mapping[str, bytes]) -> None:
        """Makes sure that enough clients hold one global adapter.

        Without it a server that changes the sums it hands out could lead each client to an adapter of its own, and read
        one client's update off a sum in which all others are known to be zero.

        Raises:
            MessageError: fewer than `threshold` clients signed for the digest.
        """
        for name, signature in signatures.items():
            self.roster.verify(name, self._adapter_statement(run, round_number, name, adapter_digest), signature)
        if len(signatures) < self._threshold:
            raise MessageError(
                f"{len(signatures)} clients signed for the global adapter that client {self.name} is to go on from, "
                f"expected at least {self._threshold}: a server alone could have made it up"
            )

    def check_sum(self, members: MemberList, total: bytes) -> None:
        """Lets this client try one sum for a list, and no second one; see `TriedSums`.

        Raises:
            MessageError: another sum was tried for this list before.
            SecretKeyError, StorageError: what was tried before cannot be read or written.
        """
        self._tried.claim(members, hashlib.sha256(total).hexdigest())

    def hand_over(self, run: str, round_number: int, state: bytes, recipients: Sequence[str]) -> dict[str, bytes]:
        """Encrypts the global state for clients that were away.

        Returns:
            "state", and "to NAME" with the key to it for every recipient.
        """
        key = new_key_part()
        parts = {"state": encrypt_for_group(key, state, self._state_context(run, round_number, self.name, ""))}
        for name in recipients:
            about = self._state_context(run, round_number, self.name, name)
            parts[f"to {name}"] = seal_envelope(self._identity, self.roster.member(name), key, about)
        return parts

    def take_over(
        self,
        run: str,
        round_number: int,
        *,
        source: str,
        parts: Mapping[str, bytes],
        adapter_digest: str,
        signatures: Mapping[str, bytes],
    ) -> bytes:
        """Decrypts the global state that another client handed over.

        Args:
            run: the run's id.
            round_number: rounds done in that state.
            source: who handed it over.
            parts: its "state" and "key".
            adapter_digest: what the state must have; the caller compares it.
            signatures: of clients under that digest.

        Raises:
            MessageError: fewer than `threshold` clients signed for the digest, or the state does not open.
        """
        self.check_adapter(run, round_number, adapter_digest, signatures)
        if not parts.keys() >= {"state", "key"}:
            raise MessageError("a state that is handed over has the parts state and key")
        about = self._state_context(run, round_number, source, self.name)
        key = open_envelope(self._identity, self.roster.member(source), parts["key"], about)
        return decrypt_for_group(key, parts["state"], self._state_context(run, round_number, source, ""))

    def _check(self, members: MemberList, expected: Expected) -> None:
        context = expected.context
        facts = {
            "run": (members.run, context.run),
            "round": (members.round_number, context.round_number),
            "roster": (members.roster_digest, self.roster.digest),
            "sealing profile": (members.sealing_digest, self._sealing.digest),
            "number of values": (members.num_values, context.num_values),
            "range": (members.limit, context.limit),
            "reference weight": (members.reference_weight, expected.reference_weight or members.reference_weight),
        }
        for fact, (listed, own) in facts.items():
            if listed != own:
                raise MessageError(f"the list of members has another {fact} than client {self.name}")
        if len(members.entries) < self._min_clients:
            raise MessageError(
                f"the list has {len(members.entries)} members; client {self.name} opens no sum of fewer than "
                f"{self._min_clients} (federation.min_clients)"
            )
        if members.reference_weight > MOST_DILUTION * statistics.median_low(members.weights.values()):
            raise MessageError(
                f"the reference weight is more than {MOST_DILUTION} times the median weight of the listed members: one "
                "client outweighs the others, next to nothing of the others' updates would be left, and the sum would "
                "be nearly its own update. Set federation.max_weight. If that client is gone for good, "
                "resuming the run plans the round without it"
            )
        for entry in members.entries:
            self.roster.point_of(entry.client)
            if entry.weight > members.reference_weight:
                raise MessageError(f"the list gives {entry.client} more than the reference weight")
            if entry.client == self.name and entry != expected.entry:
                raise MessageError(f"the list of members is not right about client {self.name}")

    def _group_key(self, members: MemberList, envelopes: Mapping[str, bytes], context: SealContext) -> bytes:
        parts = {entry.client: self._open(_GROUP, entry, envelopes, context) for entry in members.entries}
        return combine_key_parts(parts, members.digest.encode())

    def _open(self, purpose: str, entry: Entry, envelopes: Mapping[str, bytes], context: SealContext) -> bytes:
        envelope = envelopes.get(f"{purpose} {entry.client}")
        if envelope is None:
            raise MessageError(f"the {purpose} envelope from {entry.client} is missing")
        about = self._context(purpose, context, sender=entry.client, recipient=self.name, key_id=entry.key_id)
        try:
            return open_envelope(self._identity, self.roster.member(entry.client), envelope, about)
        except MessageError as error:
            raise MessageError(f"the {purpose} envelope from {entry.client} is refused: {error}") from error

    def _context(self, purpose: str, context: SealContext, *, sender: str, recipient: str, key_id: str) -> bytes:
        return envelope_context(
            purpose=purpose,
            run=context.run,
            round_number=context.round_number,
            roster_digest=self.roster.digest,
            sender=sender,
            recipient=recipient,
            key_id=key_id,
        )

    def _state_context(self, run: str, round_number: int, sender: str, recipient: str) -> bytes:
        return envelope_context(
            purpose=_STATE,
            run=run,
            round_number=round_number,
            roster_digest=self.roster.digest,
            sender=sender,
            recipient=recipient,
            key_id="",
        )

    def _adapter_statement(self, run: str, round_number: int, sender: str, adapter_digest: str) -> bytes:
        return adapter_statement(
            run=run,
            round_number=round_number,
            roster_digest=self.roster.digest,
            sender=sender,
            adapter_digest=adapter_digest,
        )
