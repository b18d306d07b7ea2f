"""A member that cheats in a run, and a server that tells one member something else: refused, by name, in the log.

Who may take part at all is in test_attendance.py. Every field of every message, list and frame has its tests in
tests/parties, tests/membership and tests/test_sealed_round.py; here it is whole runs, and what their logs say.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from confide.deploy.terms import Terms
from confide.errors import MessageError, RoundFailedError
from confide.membership.identity import Identity
from confide.membership.memberlist import MemberList
from confide.membership.roster import Roster
from confide.messages import (
    FinishReply,
    Message,
    OfferRequest,
    ReleaseRequest,
    SignReply,
    SignRequest,
    TrainReply,
    TrainRequest,
    pack_parts,
    unpack_parts,
)
from tests.deploy.field import CONFIG, NAMES, Change, Field

FIRST, SECOND, THIRD = NAMES
TWO_ARE_ENOUGH = CONFIG.replace("rounds = 2", "rounds = 1\nmin_clients = 2")
TEN_GIGABYTES = 10 << 30


class Ear:
    """Keeps what the first member uploads and signs, for another to use."""

    def __init__(self, field: Field) -> None:
        field.members[FIRST].says = self._keep
        self.heard: dict[type[Message], Message] = {}

    def _keep(self, message: Message) -> Message:
        self.heard[type(message)] = message
        return message


def _instead(kind: type[Message], change: Callable[[Message], Message | bytes]) -> Change:
    """Changes one kind of message."""
    return lambda message: change(message) if isinstance(message, kind) else message


def _frames_of_the_first(ear: Ear) -> Change:
    def change(message: Message) -> Message:
        theirs = unpack_parts(ear.heard[TrainReply].body)
        return replace(message, body=pack_parts({**unpack_parts(message.body), "frames": theirs["frames"]}))

    return _instead(TrainReply, change)


def _upload_of_the_first(ear: Ear) -> Change:
    return _instead(TrainReply, lambda message: ear.heard[TrainReply])


def _signature_of_the_first(ear: Ear) -> Change:
    def change(message: Message) -> Message:
        theirs = ear.heard[SignReply]
        assert isinstance(theirs, SignReply)
        assert isinstance(message, SignReply)
        return replace(message, signature=theirs.signature)

    return _instead(SignReply, change)


def _name_of_the_first(ear: Ear) -> Change:
    def change(message: Message) -> Message:
        assert isinstance(message, SignReply)
        return replace(message, client=FIRST)

    return _instead(SignReply, change)


def _garbage(ear: Ear) -> Change:
    return _instead(TrainReply, lambda message: b"\x00garbage\xff" * 100)


def _huge_message(ear: Ear) -> Change:
    """A head that announces ten gigabytes of body."""
    return _instead(TrainReply, lambda message: struct.pack(">4sHHIQ", b"CNFD", 2, 4, 2, TEN_GIGABYTES) + b"{}")


def _huge_part(ear: Ear) -> Change:
    """A part of a body that announces ten gigabytes."""
    part = struct.pack(">HQ", 6, TEN_GIGABYTES) + b"frames"
    return _instead(TrainReply, lambda message: replace(message, body=part))


def _huge_frame(ear: Ear) -> Change:
    """A frame whose body is said to have 4 GiB, the most that its length can say."""

    def change(message: Message) -> Message:
        parts = unpack_parts(message.body)
        frames = parts["frames"]
        place = struct.calcsize(">4sH32s32s32sIHQIId")
        return replace(
            message, body=pack_parts({**parts, "frames": frames[:place] + b"\xff" * 4 + frames[place + 4 :]})
        )

    return _instead(TrainReply, change)


@pytest.mark.parametrize(
    ("cheat", "reason"),
    [
        (_frames_of_the_first, "the sender is 1, expected 3"),
        (_upload_of_the_first, "answered for another"),
        (_signature_of_the_first, f"is not {THIRD}'s"),
        (_name_of_the_first, "answered for another"),
        (_garbage, "wrong magic"),
        (_huge_message, f"announces 2 [+] {TEN_GIGABYTES} bytes"),
        (_huge_part, "announces a part that ends at 107374"),
        (_huge_frame, "announces a body longer than what is left"),
    ],
    ids=lambda value: getattr(value, "__name__", "")[1:],
)
def test_a_member_that_cheats_is_left_out_by_name_and_the_others_go_on(
    tmp_path: Path, cheat: Callable[[Ear], Change], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].says = cheat(Ear(field))
    field.go()
    (record,) = field.directory.records()
    assert record.members == (FIRST, SECOND)
    assert re.search(reason, record.failures[THIRD])
    assert f"client {THIRD} is left out: {record.failures[THIRD]}" in caplog.text


def _other_roster(message: Message) -> Message:
    """Another one's keys in the place of the first member's, in terms that agree with themselves."""
    assert isinstance(message, OfferRequest)
    terms = Terms.from_request(message)
    others = [terms.members.member(name) for name in terms.members.names if name != FIRST]
    roster = Roster([Identity.generate(FIRST).public, *others])
    return Terms(config=terms.config, roster=roster.to_json().encode(), nonce=terms.nonce).to_request(message.challenge)


def _config(message: OfferRequest) -> bytes:
    config = unpack_parts(message.body)["config"]
    assert b"local_steps = 1\n" in config
    return config.replace(b"local_steps = 1\n", b"local_steps = 3\n")


def _other_config(message: Message) -> Message:
    assert isinstance(message, OfferRequest)
    return replace(message, body=pack_parts({**unpack_parts(message.body), "config": _config(message)}))


def _other_run(message: Message) -> Message:
    """Another configuration, in terms that agree with themselves."""
    assert isinstance(message, OfferRequest)
    terms = Terms.from_request(message)
    return Terms(config=_config(message), roster=terms.roster, nonce=terms.nonce).to_request(message.challenge)


def _other_adapter(message: Message) -> Message:
    assert isinstance(message, TrainRequest)
    return replace(message, adapter_digest="0" * 64)


def _without_the_first(message: Message) -> Message:
    members = MemberList.from_bytes(unpack_parts(message.body)["members"])
    entries = tuple(entry for entry in members.entries if entry.client != FIRST)
    shorter = replace(members, entries=entries).to_bytes()
    return replace(message, body=pack_parts({**unpack_parts(message.body), "members": shorter}))


def _lighter(message: Message) -> Message:
    members = MemberList.from_bytes(message.body)
    entries = tuple(
        replace(entry, weight=entry.weight / 2) if entry.client == THIRD else entry for entry in members.entries
    )
    return replace(message, body=replace(members, entries=entries).to_bytes())


@pytest.mark.parametrize(
    ("kind", "change", "refusal"),
    [
        (OfferRequest, _other_roster, f"RosterError: .*other keys for {FIRST}"),
        (OfferRequest, _other_config, "MessageError: the id of the offered run does not stand for the offered terms"),
        (TrainRequest, _other_adapter, f"AgreementError: client {THIRD} holds another global adapter"),
        (SignRequest, _lighter, f"{THIRD}"),
        (ReleaseRequest, _without_the_first, "signature"),
    ],
    ids=["roster", "configuration", "adapter", "list to sign", "list to release for"],
)
def test_a_server_that_tells_one_member_something_else_is_refused_by_it_and_both_logs_say_so(
    tmp_path: Path,
    kind: type[Message],
    change: Callable[[Message], Message],
    refusal: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].hears = _instead(kind, change)
    field.go()
    refused = [line for line in caplog.messages if "refused or failed" in line]
    assert len(refused) >= 1
    assert re.search(refusal, refused[0])
    told = [line for line in caplog.messages if "is left out" in line]
    assert re.search(refusal.replace("MessageError: ", ""), told[0])
    who = "node 9" if kind is OfferRequest else THIRD
    assert who in told[0]


def test_a_server_that_offers_one_member_another_run_gets_no_answer_for_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    field = Field(tmp_path)
    field.members[THIRD].hears = _instead(OfferRequest, _other_run)
    with pytest.raises(RoundFailedError, match="it answers for another run"):
        field.go()
    assert "node 9 is left out: it answers for another run" in caplog.text


def test_a_request_of_a_run_that_was_not_offered_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    field = Field(tmp_path, TWO_ARE_ENOUGH)
    field.members[THIRD].hears = _instead(TrainRequest, lambda message: replace(message, run="0" * 64))
    field.go()
    assert f"{THIRD} was not offered the run that this request is of" in caplog.text
    (record,) = field.directory.records()
    assert THIRD in record.failures


@pytest.mark.parametrize("request_bytes", [b"", b"\x00garbage\xff" * 100])
def test_what_is_no_request_is_refused_and_stands_in_the_members_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request_bytes: bytes
) -> None:
    member = Field(tmp_path).members[NAMES[0]]
    assert member.node is not None
    with pytest.raises(MessageError):
        member.node.handle(request_bytes)
    reply = FinishReply(run="a", round_number=0, client=NAMES[1]).to_bytes()
    with pytest.raises(MessageError, match="which only a server gets"):
        member.node.handle(reply)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert all(line.startswith("refused what is no request: ") for line in told)
