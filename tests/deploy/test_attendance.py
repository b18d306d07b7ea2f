"""Who may take part: a node proves which member it is, for this run and this request, or it is left out by name."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from confide.deploy.attendance import Attendance
from confide.deploy.terms import Terms
from confide.errors import DeployError, RunError
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.membership.statements import presence_statement
from confide.messages import OfferReply, OfferRequest, pack_parts
from confide.transport.base import NodeReply, Reply
from confide.update import Layout, Slot

LAYOUT = Layout((Slot(name="w", shape=(2, 3)),))
NAMES = ("east", "north", "west")

Answer = Callable[[OfferRequest], bytes]


class Nodes:
    """A network of nodes that answer offers."""

    def __init__(self, answers: Mapping[int, Answer]) -> None:
        self.answers = dict(answers)
        self.introduced: dict[str, int] = {}
        self.heard: dict[int, OfferRequest] = {}
        self.asked: list[int] = []

    def nodes(self) -> list[int]:
        return list(self.answers)

    def introduce(self, names: Mapping[str, int]) -> None:
        self.introduced = dict(names)

    def ask_nodes(self, requests: Mapping[int, bytes]) -> Iterator[NodeReply]:
        for node, request in requests.items():
            self.asked.append(node)
            self.heard[node] = OfferRequest.from_bytes(request)
            yield NodeReply(node=node, body=self.answers[node](self.heard[node]))

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        raise AssertionError("offers go to nodes")


def _answer(identity: Identity, name: str | None = None, *, base: str = "b1", layout: bytes | None = None) -> Answer:
    """The answer of a node that holds an identity, under a name of its own or another one."""
    said = name or identity.public.name

    def answer(offer: OfferRequest) -> bytes:
        terms = Terms.from_request(offer)
        statement = presence_statement(
            run=terms.run, challenge=offer.challenge, roster_digest=terms.members.digest, sender=said
        )
        return OfferReply(
            run=terms.run,
            round_number=0,
            client=said,
            proof=identity.sign(statement).hex(),
            base_digest=base,
            body=pack_parts({"layout": layout or LAYOUT.to_json().encode(), "adapter": b"{}"}),
        ).to_bytes()

    return answer


@pytest.fixture
def identities() -> dict[str, Identity]:
    return {name: Identity.generate(name) for name in NAMES}


@pytest.fixture
def terms(identities: dict[str, Identity]) -> Terms:
    return Terms.new("x = 1", Roster([identity.public for identity in identities.values()]))


def test_members_are_introduced_by_where_they_are(identities: dict[str, Identity], terms: Terms) -> None:
    nodes = Nodes({10 + place: _answer(identities[name]) for place, name in enumerate(NAMES)})
    attendance = Attendance(nodes, terms)
    assert attendance.look()
    assert nodes.introduced == {"east": 10, "north": 11, "west": 12}
    assert attendance.settle().layout == LAYOUT
    assert not attendance.look()
    assert nodes.asked == [10, 11, 12]  # and nobody twice


def test_a_node_that_appears_later_is_offered_the_run_then(identities: dict[str, Identity], terms: Terms) -> None:
    nodes = Nodes({1: _answer(identities["east"])})
    attendance = Attendance(nodes, terms)
    attendance.look()
    nodes.answers[2] = _answer(identities["west"])
    assert attendance.look()
    assert nodes.introduced == {"east": 1, "west": 2}


def test_a_network_that_does_not_say_who_is_there_is_told_of_once_and_looked_at_again(
    identities: dict[str, Identity], terms: Terms
) -> None:
    class Failing(Nodes):
        num_failures = 2

        def nodes(self) -> list[int]:
            if self.num_failures:
                self.num_failures -= 1
                raise DeployError("the SuperLink failed")
            return super().nodes()

    told: list[str] = []
    attendance = Attendance(Failing({1: _answer(identities["east"])}), terms, told.append)
    assert not attendance.try_to_look()
    assert attendance.reasons == {"the network": "the SuperLink failed"}
    with pytest.raises(DeployError, match="the SuperLink failed"):
        attendance.look()
    assert attendance.try_to_look(again=False)
    assert attendance.names == {"east"}
    assert attendance.reasons == {}
    assert told == ["nobody is looked for at present: the SuperLink failed"]


def _replayed(terms: Terms, identity: Identity) -> Answer:
    """Hands on what a member answered to another challenge."""
    heard = _answer(identity)(terms.to_request("00" * 16))
    return lambda offer: heard


@pytest.mark.parametrize(
    ("intruder", "reason"),
    [
        (lambda terms, known: _answer(Identity.generate("mallory")), "not in the roster"),
        (lambda terms, known: _answer(Identity.generate("west")), "is not west's"),
        (lambda terms, known: _answer(known["east"], "west"), "is not west's"),
        (lambda terms, known: _replayed(terms, known["west"]), "is not west's"),
        (lambda terms, known: lambda offer: b"", "at least 20 bytes"),
        (lambda terms, known: lambda offer: b"CNFD\x00\x02\x00\x0f" + b"\xff" * 12, "announces"),
        (lambda terms, known: _answer(known["west"], layout=b"[[]]"), "layout"),
        (lambda terms, known: _answer(known["west"], layout=b'[["w",[4611686018427387904]]]'), "no adapter has"),
    ],
    ids=["stranger", "own key", "another's name", "replay", "empty", "huge header", "no layout", "huge layout"],
)
def test_an_intruder_is_left_out_and_the_log_says_why(
    identities: dict[str, Identity],
    terms: Terms,
    intruder: Callable[[Terms, dict[str, Identity]], Answer],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = Nodes({1: _answer(identities["east"]), 2: intruder(terms, identities), 3: _answer(identities["north"])})
    attendance = Attendance(nodes, terms)
    attendance.look()
    assert nodes.introduced == {"east": 1, "north": 3}
    assert reason in attendance.reasons["node 2"]
    assert f"node 2 is left out: {attendance.reasons['node 2']}" in caplog.text


def test_a_silent_node_is_asked_again_ever_more_rarely(identities: dict[str, Identity], terms: Terms) -> None:
    class Silent(Nodes):
        def ask_nodes(self, requests: Mapping[int, bytes]) -> Iterator[NodeReply]:
            for reply in super().ask_nodes(requests):
                yield NodeReply(node=2, error_kind="Missing") if reply.node == 2 and len(self.asked) < 7 else reply

    nodes = Silent({1: _answer(identities["east"]), 2: _answer(identities["west"])})
    attendance = Attendance(nodes, terms)
    attendance.look()
    asked_at = []
    for number in range(1, 30):
        before = len(nodes.asked)
        attendance.look(again=False)
        if len(nodes.asked) > before:
            asked_at.append(number)
    assert nodes.asked == [1, 2, 2, 2, 2, 2, 2]
    assert asked_at == [1, 3, 6, 10, 15]
    assert nodes.introduced == {"east": 1, "west": 2}


def test_a_second_node_with_a_members_key_does_not_take_its_place(
    identities: dict[str, Identity], terms: Terms
) -> None:
    nodes = Nodes({1: _answer(identities["east"]), 2: _answer(identities["east"])})
    attendance = Attendance(nodes, terms)
    attendance.look()
    assert nodes.introduced == {"east": 1}
    assert "so does node 1" in attendance.reasons["node 2"]


def test_who_has_another_base_model_is_left_out(identities: dict[str, Identity], terms: Terms) -> None:
    nodes = Nodes(
        {1: _answer(identities["east"]), 2: _answer(identities["north"]), 3: _answer(identities["west"], base="b2")}
    )
    attendance = Attendance(nodes, terms)
    attendance.look()
    assert attendance.settle().base_digest == "b1"
    assert nodes.introduced == {"east": 1, "north": 2}
    assert "another base model" in attendance.reasons["node 3"]


def test_as_many_with_one_base_model_as_with_another_is_nobody_to_go_by(
    identities: dict[str, Identity], terms: Terms
) -> None:
    nodes = Nodes({1: _answer(identities["east"]), 2: _answer(identities["north"], base="b2")})
    attendance = Attendance(nodes, terms)
    attendance.look()
    with pytest.raises(RunError, match="2 different base models"):
        attendance.settle()


@pytest.mark.parametrize("kind", ["Missing", "LoadClientAppException", "ClientAppRaisedException", "ClientAppCrashed"])
def test_a_node_whose_client_app_failed_is_asked_again_and_one_that_refused_is_not(
    identities: dict[str, Identity], terms: Terms, kind: str
) -> None:
    class Failing(Nodes):
        def ask_nodes(self, requests: Mapping[int, bytes]) -> Iterator[NodeReply]:
            is_failing = len(self.asked) < 5
            for reply in super().ask_nodes(requests):
                failure = "PolicyError" if reply.node == 2 else kind if is_failing else ""
                yield NodeReply(node=reply.node, error_kind=failure, error="why") if failure else reply

    nodes = Failing({1: _answer(identities["east"]), 2: _answer(identities["west"])})
    attendance = Attendance(nodes, terms)
    asked_at = []
    for number in range(30):
        before = len(nodes.asked)
        attendance.look()
        if len(nodes.asked) > before:
            asked_at.append(number)
    assert nodes.asked == [1, 2, 1, 1, 1, 1]
    assert asked_at == ([0, 1, 2, 3, 4] if kind == "Missing" else [0, 1, 3, 6, 10])
    assert attendance.names == {"east"}
    assert attendance.reasons == {"node 2": "PolicyError: why"}
