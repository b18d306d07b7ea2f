"""A client's keys at work: for whom they open, for which list they release, and what they refuse."""

import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from confide.errors import ConfideError, MessageError, RosterError, SealError, SecretKeyError
from confide.membership.identity import Identity
from confide.membership.ledger import MemoryLedger
from confide.membership.memberlist import MOST_DILUTION, Entry, MemberList
from confide.membership.release import statement_of_release
from confide.membership.roster import SIGNATURE_BYTES, Roster
from confide.membership.statements import member_list_statement
from confide.parties import key_holder
from confide.parties.key_holder import Expected, KeyHolder
from confide.seal.adder import ModularAdder
from confide.seal.onetime import OneTimeClient
from confide.seal.plain import PlainClient, PlainRound
from confide.seal.profiles import get_profile
from confide.seal.scheme import SealContext
from confide.update import Vector

NAMES = ("east", "north", "west")
IDENTITIES = {name: Identity.generate(name) for name in (*NAMES, "eve")}
ROSTER = Roster([IDENTITIES[name].public for name in NAMES])
PROFILE = get_profile("onetime", "compact")
SEALING = OneTimeClient(PROFILE, ROSTER, 2)
ADDER = ModularAdder(PROFILE)
ADAPTER = "ef" * 32
VALUES = {name: np.array([0.125, -0.25, 0.0625 * point], np.float32) for point, name in enumerate(NAMES)}


def holder(name: str, *, min_clients: int = 2, identity: Identity | None = None) -> KeyHolder:
    return KeyHolder(
        identity=identity or IDENTITIES[name],
        roster=ROSTER,
        ledger=MemoryLedger(),
        sealing=SEALING,
        min_clients=min_clients,
        threshold=2,
    )


def context_of(name: str, round_number: int = 1) -> SealContext:
    return SealContext(run="keys", round_number=round_number, client=name, num_values=3, limit=1.0)


@dataclass(frozen=True)
class Uploaded:
    """What everybody delivered in one round: how each is listed, its envelopes, and the sealed sum."""

    members: MemberList
    envelopes: Mapping[str, Mapping[str, bytes]]
    bodies: Mapping[str, bytes]

    def expected(self, name: str) -> Expected:
        own = {entry.client: entry for entry in self.members.entries}.get(name)
        return Expected(context=context_of(name), entry=own, reference_weight=self.members.reference_weight)

    def signatures(self, members: MemberList | None = None) -> dict[str, bytes]:
        statement = member_list_statement((members or self.members).to_bytes())
        return {name: IDENTITIES[name].sign(statement) for name in (members or self.members).weights}

    def addressed_to(self, name: str) -> dict[str, bytes]:
        """As the server hands them on: "share NAME" and "group NAME", by who sent them."""
        return {
            f"{what} {sender}": envelopes[f"{what} {name}"]
            for sender, envelopes in self.envelopes.items()
            for what in ("share", "group")
        }

    def release(self, name: str, by: KeyHolder | None = None) -> bytes:
        return (by or holder(name)).release(
            self.members, self.signatures(), self.addressed_to(name), self.expected(name)
        )


def listed(*entries: Entry) -> MemberList:
    return MemberList(
        run="keys",
        round_number=1,
        roster_digest=ROSTER.digest,
        sealing_digest=SEALING.digest,
        num_values=3,
        limit=1.0,
        reference_weight=2.0,
        entries=entries,
    )


@pytest.fixture(scope="module")
def uploaded() -> Uploaded:
    entries, envelopes, bodies = [], {}, {}
    for name in NAMES:
        sealing = SEALING.begin(context_of(name))
        (bodies[name],) = sealing.chunks(VALUES[name])
        envelopes[name] = holder(name).address(context_of(name), sealing)
        entries.append(Entry(client=name, weight=2.0, key_id=sealing.key_id, upload_digest="ab" * 32))
    return Uploaded(listed(*entries), envelopes, bodies)


@pytest.fixture(scope="module")
def released(uploaded: Uploaded) -> dict[str, bytes]:
    return {name: uploaded.release(name) for name in NAMES}


def test_what_enough_clients_release_opens_the_sum_for_every_client(
    uploaded: Uploaded, released: dict[str, bytes]
) -> None:
    total = ADDER.add([uploaded.bodies[name] for name in NAMES], 3)
    for few in (("east", "north"), ("north", "west"), NAMES):
        for reader in NAMES:
            shares = holder(reader).read_released(
                uploaded.members,
                {name: released[name] for name in few},
                uploaded.addressed_to(reader),
                uploaded.expected(reader),
            )
            assert set(shares) == {ROSTER.point_of(name) for name in few}
            opened = SEALING.open(context_of(reader), num_members=3, bodies=[total], key_shares=shares)
            # Three values, each off by half a step of 1 / 32767.
            np.testing.assert_allclose(opened, sum(VALUES.values()), rtol=0, atol=3 * 0.51 / 32767)


def test_one_release_alone_opens_nothing(uploaded: Uploaded, released: dict[str, bytes]) -> None:
    shares = holder("east").read_released(
        uploaded.members, {"west": released["west"]}, uploaded.addressed_to("east"), uploaded.expected("east")
    )
    with pytest.raises(SealError, match="1 shares of the key's sum, but 2 are needed"):
        SEALING.open(context_of("east"), num_members=3, bodies=[b""], key_shares=shares)


def test_a_round_key_is_addressed_to_everybody_and_two_envelopes_never_alike(uploaded: Uploaded) -> None:
    for envelopes in uploaded.envelopes.values():
        assert envelopes.keys() == {f"{what} {name}" for what in ("share", "group") for name in NAMES}
        assert len(set(envelopes.values())) == len(envelopes)


def test_without_round_keys_nothing_is_addressed_and_nothing_read(uploaded: Uploaded) -> None:
    plain = KeyHolder(
        identity=IDENTITIES["east"],
        roster=ROSTER,
        ledger=MemoryLedger(),
        sealing=PlainClient(),
        min_clients=1,
        threshold=2,
    )
    assert plain.address(context_of("east"), PlainRound()) == {}
    members = replace(uploaded.members, sealing_digest=PlainClient.digest)
    assert plain.read_released(members, {"west": b"?"}, {}, uploaded.expected("east")) == {}


def test_a_holder_knows_its_number_in_the_roster() -> None:
    assert [holder(name).point for name in NAMES] == [1, 2, 3]
    with pytest.raises(RosterError, match="'eve' is not in the roster"):
        _ = holder("eve").point


@pytest.mark.parametrize("what", ["share", "group"])
@pytest.mark.parametrize(
    "swap",
    [
        lambda envelopes, what: {f"{what} west": envelopes["group west" if what == "share" else "share west"]},
        lambda envelopes, what: {f"{what} west": envelopes[f"{what} north"]},
        lambda envelopes, what: {f"{what} west": envelopes[f"{what} west"][:-1] + b"?"},
        lambda envelopes, what: {f"{what} west": b""},
    ],
    ids=["another purpose", "another sender", "changed", "empty"],
)
def test_an_envelope_opens_for_what_it_was_sealed_for_only(
    uploaded: Uploaded, what: str, swap: Callable[[Mapping[str, bytes], str], dict[str, bytes]]
) -> None:
    envelopes = uploaded.addressed_to("east")
    with pytest.raises(MessageError, match=r"the signature is not west's|an envelope has 112 to"):
        holder("east").release(
            uploaded.members, uploaded.signatures(), envelopes | swap(envelopes, what), uploaded.expected("east")
        )


def test_a_wrong_recipient_cannot_open(uploaded: Uploaded) -> None:
    """Neither another member, who knows another context, nor somebody who takes a member's name."""
    with pytest.raises(MessageError, match="the signature is not east's"):
        holder("north").release(
            uploaded.members, uploaded.signatures(), uploaded.addressed_to("east"), uploaded.expected("north")
        )
    impostor = Identity.generate("east")
    with pytest.raises(MessageError, match="the envelope does not open for east in this place"):
        uploaded.release("east", by=holder("east", identity=impostor))


def test_envelopes_of_another_round_do_not_open(uploaded: Uploaded) -> None:
    later = replace(uploaded.members, round_number=2)
    expected = replace(uploaded.expected("east"), context=context_of("east", 2))
    with pytest.raises(MessageError, match="the signature is not east's"):
        holder("east").release(later, uploaded.signatures(later), uploaded.addressed_to("east"), expected)


@pytest.mark.parametrize("what", ["share west", "group west"])
def test_a_missing_envelope_is_named(uploaded: Uploaded, what: str) -> None:
    envelopes = {name: one for name, one in uploaded.addressed_to("east").items() if name != what}
    with pytest.raises(MessageError, match=f"the {what.split()[0]} envelope from west is missing"):
        holder("east").release(uploaded.members, uploaded.signatures(), envelopes, uploaded.expected("east"))


def changed(members: MemberList, name: str, /, **changes: object) -> MemberList:
    entries = tuple(replace(one, **changes) if one.client == name else one for one in members.entries)  # type: ignore[arg-type]
    return replace(members, entries=entries)


WRONG_LISTS: list[tuple[Callable[[MemberList], MemberList], str]] = [
    (lambda members: replace(members, run="other"), "another run than client east"),
    (lambda members: replace(members, round_number=2), "another round than client east"),
    (lambda members: replace(members, roster_digest=bytes(32)), "another roster than"),
    (lambda members: replace(members, sealing_digest=bytes(32)), "another sealing profile than"),
    (lambda members: replace(members, num_values=4), "another number of values than"),
    (lambda members: replace(members, limit=2.0), "another range than"),
    (lambda members: replace(members, reference_weight=4.0), "another reference weight than"),
    (lambda members: replace(members, entries=members.entries[:1]), "has 1 members; client east opens no sum of fewer"),
    (lambda members: changed(members, "west", weight=3.0), "gives west more than the reference weight"),
    (lambda members: changed(members, "east", weight=1.0), "is not right about client east"),
    (lambda members: changed(members, "east", key_id=""), "is not right about client east"),
    (lambda members: changed(members, "west", client="eve"), "'eve' is not in the roster"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG_LISTS)
def test_a_list_that_is_not_right_is_not_signed_released_for_or_read(
    uploaded: Uploaded, released: dict[str, bytes], change: Callable[[MemberList], MemberList], reason: str
) -> None:
    members = change(uploaded.members)
    keys, expected, envelopes = holder("east"), uploaded.expected("east"), uploaded.addressed_to("east")
    with pytest.raises(ConfideError, match=reason):
        keys.sign_list(members, expected)
    with pytest.raises(ConfideError, match=reason):
        keys.release(members, {}, envelopes, expected)
    with pytest.raises(ConfideError, match=reason):
        keys.read_released(members, released, envelopes, expected)
    assert uploaded.release("east", by=keys)  # nothing of it was remembered


def test_only_who_uploaded_and_is_listed_signs(uploaded: Uploaded) -> None:
    keys, expected = holder("east"), uploaded.expected("east")
    ROSTER.verify(
        "east", member_list_statement(uploaded.members.to_bytes()), keys.sign_list(uploaded.members, expected)
    )
    without = replace(uploaded.members, entries=uploaded.members.entries[1:])
    for members, known in ((without, expected), (without, replace(expected, entry=None))):
        with pytest.raises(MessageError, match="client east signs no list of members that does not hold its own"):
            keys.sign_list(members, known)
    with pytest.raises(MessageError, match="is not right about client east"):
        keys.sign_list(uploaded.members, replace(expected, entry=None))


def test_who_was_not_asked_to_train_takes_the_lists_reference_weight(uploaded: Uploaded) -> None:
    """It still has keys to release: the members' weights are for the members to check."""
    members = replace(uploaded.members, entries=uploaded.members.entries[1:])
    expected = Expected(context=context_of("east"), entry=None, reference_weight=None)
    assert holder("east").release(members, uploaded.signatures(members), uploaded.addressed_to("east"), expected)


def test_a_list_needs_every_members_signature(uploaded: Uploaded) -> None:
    good = uploaded.signatures()
    fewer = {name: one for name, one in good.items() if name != "west"}
    for signatures, reason in (
        (fewer, "the list of members is not signed by west"),
        (good | {"west": good["east"]}, "the signature is not west's"),
        (good | {"west": b""}, "the signature is not west's"),
    ):
        with pytest.raises(MessageError, match=reason):
            holder("east").release(
                uploaded.members, signatures, uploaded.addressed_to("east"), uploaded.expected("east")
            )


def test_one_list_a_round_is_released_for_and_again_only_the_same_members(uploaded: Uploaded) -> None:
    keys = holder("east")
    first = uploaded.release("east", by=keys)
    assert uploaded.release("east", by=keys) != first  # another nonce: the same share twice says nothing new
    shorter = replace(uploaded.members, entries=uploaded.members.entries[:2])
    with pytest.raises(SecretKeyError, match="round 1 of run keys was released for other members before"):
        keys.release(shorter, uploaded.signatures(shorter), uploaded.addressed_to("east"), uploaded.expected("east"))


def test_what_was_refused_leaves_the_round_free(uploaded: Uploaded) -> None:
    keys = holder("east")
    shorter = replace(uploaded.members, entries=uploaded.members.entries[:2])
    with pytest.raises(MessageError, match="is missing"):
        keys.release(shorter, uploaded.signatures(shorter), {}, uploaded.expected("east"))
    assert uploaded.release("east", by=keys)


def test_a_member_that_sends_no_share_does_not_use_the_round_up(uploaded: Uploaded) -> None:
    """One member could else keep every round from opening: the list with it fails, the one without it is refused."""
    west = next(entry for entry in uploaded.members.entries if entry.client == "west")
    bad = holder("west").address(context_of("west"), KnownRound(west.key_id, b"no share"))
    envelopes = uploaded.addressed_to("east") | {"share west": bad["share east"], "group west": bad["group east"]}
    keys = holder("east")
    with pytest.raises(SealError, match="a share of a round key has 4096 bytes, got 8"):
        keys.release(uploaded.members, uploaded.signatures(), envelopes, uploaded.expected("east"))
    shorter = replace(uploaded.members, entries=uploaded.members.entries[:2])
    assert keys.release(shorter, uploaded.signatures(shorter), envelopes, uploaded.expected("east"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda released: {"west": b""}, "client west released 0 bytes, fewer than a signature has"),
        (lambda released: {"west": released["north"]}, "the signature is not west's"),
        (lambda released: {"eve": released["north"]}, "the signature is of nobody in the roster"),
        (lambda released: {"west": released["west"] + b"?"}, "the signature is not west's"),
    ],
)
def test_a_share_that_is_not_its_holders_is_left_out_and_refused_where_it_is_needed(
    uploaded: Uploaded,
    released: dict[str, bytes],
    spoil: Callable[[dict[str, bytes]], dict[str, bytes]],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys, envelopes, expected = holder("east"), uploaded.addressed_to("east"), uploaded.expected("east")
    wrong = spoil(released)
    (name,) = wrong
    too_few = f"1 of 2 released shares can be read, 2 are needed to open. Wrong are those of {name}: .*{reason}"
    with pytest.raises(MessageError, match=too_few):
        keys.read_released(uploaded.members, {"east": released["east"]} | wrong, envelopes, expected)
    good = {name: released[name] for name in ("east", "north")}
    shares = keys.read_released(uploaded.members, wrong | good, envelopes, expected)
    assert set(shares) == {ROSTER.point_of(name) for name in good}
    assert re.search(f"client east leaves out the share that {name} released: .*{reason}", caplog.text)


def test_a_share_released_for_one_list_is_read_for_no_other(uploaded: Uploaded, released: dict[str, bytes]) -> None:
    shorter = replace(uploaded.members, entries=uploaded.members.entries[:2])
    with pytest.raises(MessageError, match="the signature is not west's"):
        holder("east").read_released(
            shorter, {"west": released["west"]}, uploaded.addressed_to("east"), uploaded.expected("east")
        )


def test_a_share_that_one_client_takes_over_from_another_is_not_read_as_its_own(
    uploaded: Uploaded, released: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A lazy client could else release another's share under its own name, and so spoil the sum of the keys."""
    sealed = released["west"][SIGNATURE_BYTES:]
    signature = IDENTITIES["north"].sign(statement_of_release(uploaded.members, "north", sealed))
    keys, envelopes, expected = holder("east"), uploaded.addressed_to("east"), uploaded.expected("east")
    given = {**released, "north": signature + sealed}
    assert set(keys.read_released(uploaded.members, given, envelopes, expected)) == {1, 3}
    assert "the share that north released: bytes encrypted for the clients do not open" in caplog.text


def test_a_list_that_differs_in_anything_has_another_group_key(uploaded: Uploaded) -> None:
    """The envelopes with its parts may be the same: of a list with another upload of a member, for example."""
    other = changed(uploaded.members, "west", upload_digest="00" * 32)
    keys, envelopes, context = holder("east"), uploaded.addressed_to("east"), context_of("east")
    found = [keys._group_key(members, envelopes, context) for members in (uploaded.members, other)]
    assert found[0] != found[1]


def test_the_server_has_all_that_passes_and_reads_no_share(uploaded: Uploaded, released: dict[str, bytes]) -> None:
    """Shares add up to 4096 bytes; what passes is longer by a signature, a nonce and a tag, and never the same."""
    body = released["west"]
    assert len(body) == SIGNATURE_BYTES + 12 + PROFILE.ring_degree + 16
    (share,) = (
        holder("east")
        .read_released(uploaded.members, {"west": body}, uploaded.addressed_to("east"), uploaded.expected("east"))
        .values()
    )
    passing = b"".join([*released.values(), *(one for sent in uploaded.envelopes.values() for one in sent.values())])
    assert len(share) == PROFILE.ring_degree
    assert share[:16] not in passing


def test_one_sum_is_tried_for_a_list_and_no_second(uploaded: Uploaded) -> None:
    keys = holder("east")
    for _ in range(2):
        keys.check_sum(uploaded.members, b"total")  # asked again, the same may be tried again
    with pytest.raises(MessageError, match="another sum was given for the same list of members before"):
        keys.check_sum(uploaded.members, b"another")
    keys.check_sum(uploaded.members, b"total")


def test_another_list_between_them_gives_no_second_sum(uploaded: Uploaded) -> None:
    keys = holder("east")
    shorter = replace(uploaded.members, entries=uploaded.members.entries[:2])
    keys.check_sum(uploaded.members, b"total")
    keys.check_sum(shorter, b"total of two")
    with pytest.raises(MessageError, match="another sum was given for the same list"):
        keys.check_sum(uploaded.members, b"another")


@pytest.mark.parametrize("purpose", ["share", "group"])
def test_a_bad_envelope_is_refused_by_its_senders_name(uploaded: Uploaded, purpose: str) -> None:
    envelopes = uploaded.addressed_to("east")
    envelopes[f"{purpose} north"] = uploaded.addressed_to("west")[f"{purpose} north"]
    with pytest.raises(MessageError, match=f"the {purpose} envelope from north is refused"):
        holder("east").release(uploaded.members, uploaded.signatures(), envelopes, uploaded.expected("east"))


@pytest.mark.parametrize(
    ("weights", "median"),
    [
        ({}, 2.0),
        ({"west": 1e9}, 2.0),  # a weight that one member claims does not raise what is allowed for it
        ({"north": 1.0, "west": 7.0}, 2.0),
        ({"north": 1.0, "west": 0.5}, 1.0),
    ],
)
def test_a_reference_weight_that_leaves_nothing_of_most_updates_is_refused(
    weights: dict[str, float], median: float, uploaded: Uploaded
) -> None:
    """256 times the members' median weight passes, more does not."""
    most = MOST_DILUTION * median
    members = uploaded.members
    for name, weight in weights.items():
        members = changed(members, name, weight=min(weight, most))
    for reference_weight, is_right in ((most, True), (float(np.nextafter(most, np.inf)), False)):
        given = replace(members, reference_weight=reference_weight)
        expected = replace(uploaded.expected("east"), reference_weight=reference_weight)
        if is_right:
            holder("east").sign_list(given, expected)
        else:
            with pytest.raises(
                MessageError, match=r"outweighs the others, .* nearly its own .* federation\.max_weight"
            ):
                holder("east").sign_list(given, expected)


def test_of_two_members_the_lighter_one_says_how_heavy_the_other_may_be(uploaded: Uploaded) -> None:
    members = replace(changed(uploaded.members, "north", weight=600.0), reference_weight=600.0)
    members = replace(members, entries=members.entries[:2])
    with pytest.raises(MessageError, match="outweighs the others"):
        holder("east").sign_list(members, replace(uploaded.expected("east"), reference_weight=600.0))


def test_an_adapter_is_gone_on_from_if_enough_clients_signed_for_it() -> None:
    def signed(*names: str) -> dict[str, bytes]:
        return {name: holder(name).sign_adapter("keys", 4, ADAPTER) for name in names}

    keys = holder("west")
    keys.check_adapter("keys", 4, ADAPTER, signed("east", "north"))
    for names in ((), ("east",)):
        with pytest.raises(MessageError, match=f"{len(names)} clients signed .* client west .* expected at least 2"):
            keys.check_adapter("keys", 4, ADAPTER, signed(*names))
    forged = {"east": signed("north")["north"], "north": signed("north")["north"]}
    for run, round_number, digest, signatures in (
        ("other", 4, ADAPTER, signed("east", "north")),
        ("keys", 5, ADAPTER, signed("east", "north")),
        ("keys", 4, "00" * 32, signed("east", "north")),
        ("keys", 4, ADAPTER, forged),
    ):
        with pytest.raises(MessageError, match="the signature is not east's"):
            keys.check_adapter(run, round_number, digest, signatures)
    with pytest.raises(MessageError, match="the signature is of nobody in the roster"):
        keys.check_adapter("keys", 4, ADAPTER, signed("east", "eve"))


def hand_over(recipients: tuple[str, ...] = ("west",)) -> dict[str, bytes]:
    return holder("east").hand_over("keys", 4, b"the state", recipients)


def take_over(
    parts: Mapping[str, bytes],
    *,
    by: str = "west",
    source: str = "east",
    round_number: int = 4,
    signers: tuple[str, ...] = ("east", "north"),
    digest: str = ADAPTER,
) -> bytes:
    return holder(by).take_over(
        "keys",
        round_number,
        source=source,
        parts=parts,
        adapter_digest=digest,
        signatures={name: holder(name).sign_adapter("keys", 4, ADAPTER) for name in signers},
    )


def test_a_state_passes_from_one_client_to_those_it_is_for() -> None:
    parts = hand_over(("north", "west"))
    assert parts.keys() == {"state", "to north", "to west"}
    for name in ("north", "west"):
        assert take_over({"state": parts["state"], "key": parts[f"to {name}"]}, by=name) == b"the state"
    assert b"the state" not in b"".join(parts.values())
    assert hand_over(())["state"] != parts["state"]  # a fresh key every time


def test_a_state_is_for_its_recipient_from_its_source_and_of_its_round_only() -> None:
    parts = hand_over(("north", "west"))
    mine = {"state": parts["state"], "key": parts["to west"]}
    other = hand_over()
    refused: list[tuple[Callable[[], bytes], str]] = [
        (lambda: take_over({**mine, "key": parts["to north"]}), "the signature is not east's"),
        (lambda: take_over(mine, source="north"), "the signature is not north's"),
        (lambda: take_over({**mine, "state": other["state"]}), "do not open: changed, or for another"),
        (lambda: take_over({**mine, "state": mine["state"][:-1]}), "do not open: changed, or for another"),
        (lambda: take_over({**mine, "state": b""}), "are cut off"),
        (lambda: take_over({**mine, "key": b""}), "an envelope has 112 to"),
        (lambda: take_over({"state": mine["state"]}), "has the parts state and key"),
        (lambda: take_over({"key": mine["key"]}), "has the parts state and key"),
        (lambda: take_over(mine, source="eve"), "'eve' is not in the roster"),
    ]
    for act, reason in refused:
        with pytest.raises(ConfideError, match=reason):
            act()


def test_a_state_needs_the_signatures_of_a_threshold_of_clients() -> None:
    parts = hand_over()
    mine = {"state": parts["state"], "key": parts["to west"]}
    for signers in ((), ("east",)):
        with pytest.raises(MessageError, match=f"{len(signers)} clients signed .* client west .* expected at least 2"):
            take_over(mine, signers=signers)
    with pytest.raises(MessageError, match="the signature is of nobody in the roster"):
        take_over(mine, signers=("east", "eve"))
    with pytest.raises(MessageError, match="the signature is not east's"):
        take_over(mine, digest="00" * 32)
    with pytest.raises(MessageError, match="the signature is not east's"):
        take_over(mine, round_number=5)


def test_a_state_is_handed_to_members_only() -> None:
    with pytest.raises(RosterError, match="'eve' is not in the roster"):
        hand_over(("eve",))


@dataclass(frozen=True)
class KnownRound:
    """A sealing whose shares a test knows."""

    key_id: str
    share: bytes

    def chunks(self, values: Vector) -> Iterator[bytes]:
        raise AssertionError("nothing is sealed here")

    def shares(self) -> dict[str, bytes]:
        return dict.fromkeys(NAMES, self.share)


def test_no_refusal_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    share, part = b"shared secret 16" * (PROFILE.ring_degree // 16), b"part of a group key of 32 bytes!"
    monkeypatch.setattr(key_holder, "new_key_part", lambda: part)
    envelopes, entries = {}, []
    for name in NAMES:
        sealing = KnownRound("ab" * 16, share)
        envelopes[name] = holder(name).address(context_of(name), sealing)
        entries.append(Entry(client=name, weight=2.0, key_id=sealing.key_id, upload_digest="ab" * 32))
    made = Uploaded(listed(*entries), envelopes, {})
    keys, mine, expected = holder("east"), made.addressed_to("east"), made.expected("east")
    body = made.release("west")
    shorter = replace(made.members, entries=made.members.entries[:2])
    made.release("east", by=keys)
    parts = hand_over()
    taken = {"state": parts["state"], "key": parts["to west"]}
    odd = b"shared secret 16 and something odd"
    bad_share = holder("west").address(context_of("west"), KnownRound("ab" * 16, odd))
    refused: list[Callable[[], object]] = [
        lambda: keys.release(shorter, made.signatures(shorter), mine, expected),
        lambda: holder("north").release(made.members, made.signatures(), mine, made.expected("north")),
        lambda: keys.release(made.members, made.signatures(), mine | {"group west": mine["share west"]}, expected),
        lambda: keys.release(made.members, made.signatures(), mine | {"share west": bad_share["share east"]}, expected),
        lambda: keys.read_released(made.members, {"west": body[:-1] + b"?"}, mine, expected),
        lambda: keys.read_released(shorter, {"west": body}, mine, expected),
        lambda: take_over({**taken, "state": taken["state"][:-1]}),
        lambda: take_over(taken, source="north"),
        lambda: made.release("east", by=holder("east", identity=Identity.generate("east"))),
    ]
    for act in refused:
        with pytest.raises(ConfideError) as caught:
            act()
        told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(caught.value.args)
        for secret in (b"shared secret 16", part, b"the state"):
            assert secret.hex() not in told
            assert repr(secret)[2:-1] not in told.replace('b"the state"', "")
    assert "secret" not in repr(keys)
