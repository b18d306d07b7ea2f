"""Who is there: which node of the network is which member, proved by its signature, and what the members agree on."""

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confide.asking import NO_ANSWER
from confide.deploy.terms import Terms
from confide.errors import DeployError, MessageError, RunError
from confide.membership.statements import presence_statement
from confide.messages import OfferReply, from_hex, unpack_parts
from confide.transport.base import MISSING, Introducing, NodeReply
from confide.transport.hearing import UNTRIED
from confide.update import Layout

_CHALLENGE_BYTES = 16
_MAX_ADAPTER_BYTES = 1 << 20

_NETWORK = "the network"
_OTHER_MODEL = "holds another base model or adapter than the others"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Present:
    """A member that takes part.

    Attributes:
        node: where it is.
        layout: of the adapter on its base model.
        base_digest: of its base model's weights.
        adapter: what PEFT's adapter_config.json says of its adapters.
    """

    node: int
    layout: Layout
    base_digest: str
    adapter: bytes


@dataclass
class _Silence:
    """How often a node has not answered, and after how many looks it is asked again."""

    is_quick: bool = False
    """Whether its client app failed at once: then every look counts, as asking it took no time."""
    times: int = 0
    looks_left: int = 0

    def lengthen(self) -> None:
        self.times += 1
        self.looks_left = self.times


class Attendance:
    """Offers the run to nodes, and keeps who took it.

    Args:
        transport: knows the nodes.
        terms: of the run.
        tell: called with a line for the operator, on who is left out and why.
    """

    def __init__(self, transport: Introducing, terms: Terms, tell: Callable[[str], None] = _logger.warning) -> None:
        self._transport = transport
        self._terms = terms
        self._tell = tell
        self._agreed: tuple[str, str] | None = None
        self._asked: set[int] = set()
        self._silent: dict[int, _Silence] = {}
        self._present: dict[str, Present] = {}
        self.reasons: dict[str, str] = {}
        """Why nodes are not taken, by "node NUMBER"; and why the network did not say who is there, if it did not."""

    @property
    def names(self) -> frozenset[str]:
        """The members that are there."""
        return frozenset(self._present)

    def try_to_look(self, *, again: bool = True) -> bool:
        """Looks as `look` does; where the network does not say which nodes are there, nobody has joined.

        Args:
            again: as in `look`.
        """
        try:
            return self.look(again=again)
        except DeployError as error:
            if self.reasons.get(_NETWORK) != str(error):
                self._tell(f"nobody is looked for at present: {error}")
            self.reasons[_NETWORK] = str(error)
            return False

    def look(self, *, again: bool = True) -> bool:
        """Offers the run to nodes that appeared since; whether some member joined by it.

        Args:
            again: whether nodes that kept silent are asked again at once. Else one that has kept silent n times is
                asked again at the n-th look from then, so that one which never answers costs less and less. One whose
                client app failed is asked so in any case.

        Raises:
            DeployError: the network does not say which nodes are there.
        """
        spared = {node: silence for node, silence in self._silent.items() if silence.is_quick or not again}
        for silence in spared.values():
            silence.looks_left -= 1
        waiting = {node for node, silence in spared.items() if silence.looks_left > 0}
        new = [node for node in self._transport.nodes() if node not in self._asked | waiting]
        self.reasons.pop(_NETWORK, None)
        if not new:
            return False
        self._asked.update(new)
        challenges = {node: secrets.token_hex(_CHALLENGE_BYTES) for node in new}
        before = len(self._present)
        requests = {node: self._terms.to_request(challenge).to_bytes() for node, challenge in challenges.items()}
        for reply in self._transport.ask_nodes(requests):
            try:
                name, present = self._read(reply, challenges[reply.node])
                self._check_new(name, present)
            except RunError as error:
                if self.reasons.get(f"node {reply.node}") != str(error):
                    self._tell(f"node {reply.node} is left out: {error}")
                self.reasons[f"node {reply.node}"] = str(error)
                if reply.error_kind in UNTRIED:
                    self._asked.discard(reply.node)
                    silence = self._silent.setdefault(reply.node, _Silence())
                    silence.is_quick = reply.error_kind != MISSING
                    silence.lengthen()
                continue
            self._silent.pop(reply.node, None)
            self.reasons.pop(f"node {reply.node}", None)
            self._present[name] = present
            _logger.info("node %d is %s", reply.node, name)
        self._transport.introduce({name: present.node for name, present in self._present.items()})
        return len(self._present) > before

    def settle(self) -> Present:
        """Leaves out who has another base model or adapter than most, and gives one of the others; somebody is there.

        Raises:
            RunError: no base model has more members than any other.
        """
        held = Counter((one.layout.digest, one.base_digest) for one in self._present.values())
        (agreed, count), *others = held.most_common()
        if any(number == count for _, number in others):
            raise RunError(
                f"the members hold {len(held)} different base models or adapters, none of them more often than the "
                "others. Check that model.base is the same everywhere."
            )
        self._agreed = agreed
        for name, one in list(self._present.items()):
            if (one.layout.digest, one.base_digest) != agreed:
                del self._present[name]
                self.reasons[f"node {one.node}"] = f"{name} {_OTHER_MODEL}"
                self._tell(f"node {one.node} is left out: {name} {_OTHER_MODEL}")
        self._transport.introduce({name: present.node for name, present in self._present.items()})
        form = Counter(one.adapter for one in self._present.values()).most_common(1)[0][0]
        return next(one for one in self._present.values() if one.adapter == form)

    def _check_new(self, name: str, present: Present) -> None:
        """Leaves out who comes as somebody that is there, or later with another base model than was settled on.

        Raises:
            MessageError: it does.
        """
        if name in self._present:
            raise MessageError(f"it proves that it is {name}, and so does node {self._present[name].node}")
        if self._agreed is not None and (present.layout.digest, present.base_digest) != self._agreed:
            raise MessageError(f"{name} {_OTHER_MODEL}")

    def _read(self, reply: NodeReply, challenge: str) -> tuple[str, Present]:
        """Checks who a node is.

        Raises:
            RunError: it refuses, is nobody in the roster, or does not prove it.
        """
        if reply.error_kind:
            raise MessageError(f"{reply.error_kind}: {reply.error or NO_ANSWER}")
        answer = OfferReply.from_bytes(reply.body)
        roster = self._terms.members
        if answer.run != self._terms.run:
            raise MessageError("it answers for another run")
        if answer.client not in roster.names:
            raise MessageError("it calls itself by a name that is not in the roster")
        statement = presence_statement(
            run=answer.run, challenge=challenge, roster_digest=roster.digest, sender=answer.client
        )
        roster.verify(answer.client, statement, from_hex(answer.proof))
        parts: Mapping[str, bytes] = unpack_parts(answer.body)
        if parts.keys() != {"layout", "adapter"} or len(parts["adapter"]) > _MAX_ADAPTER_BYTES:
            raise MessageError(f"{answer.client} answers an offer with other parts than its adapter's layout and form")
        present = Present(
            node=reply.node,
            layout=Layout.from_json(parts["layout"]),
            base_digest=answer.base_digest,
            adapter=parts["adapter"],
        )
        return answer.client, present
