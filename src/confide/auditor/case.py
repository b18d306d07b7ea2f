"""What an audit asks about: candidates of every kind, and the truth about them."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

from confide.attacks.candidates import Candidate, PossibleSecrets
from confide.audit.truth import Population, Truth
from confide.auditor.reader import Reader, lowered, with_secret
from confide.canaries.forms import whole_text
from confide.canaries.plan import Coin
from confide.canaries.secret_space import SecretSpace
from confide.data.examples import Record, TokenizedExample
from confide.seeds import stream

PASSIVE = (
    "No coins decided what was trained on (audit.canaries is empty), so this audit is passive: members and others may "
    "differ in more than training, and what else would be a leak is called unexplained. Train with "
    "audit.canaries to be able to tell."
)

NEVER_REACHED = "never reached in training"
"""How the count of items ends that were to be trained on and were not."""
CUT_OFF = "cut off by train.max_tokens"
"""How the count of items ends of which nothing, or no planted secret, was left to learn."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything an audit asks about.

    Attributes:
        held_out: records that nobody trained on and no coin decided about: what attackers compare with.
        unseen: records that nobody trained on, to measure usefulness with.
        counts: sample sizes and what was left out, for the report.
        names: what the data calls a candidate, where that is not its id.
        fingerprint: the same for the same items and texts, however coins fell and whatever training came to. Not to be
            published: who knows all texts but one could try the last.
    """

    populations: tuple[Population, ...]
    truth: Truth
    held_out: tuple[TokenizedExample, ...] = field(repr=False)
    unseen: tuple[TokenizedExample, ...] = field(repr=False)
    counts: Mapping[str, int]
    names: Mapping[str, str] = field(default_factory=dict, repr=False)
    fingerprint: bytes = field(default=b"", repr=False)

    def with_count(self, name: str, count: int) -> "Case":
        """The same with one count more."""
        return replace(self, counts={**self.counts, name: count})

    def with_names(self, names: Mapping[str, str]) -> "Case":
        """The same with what the data calls its candidates."""
        return replace(self, names=names)


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What planted secrets are ranked against.

    Attributes:
        spaces: by kind of canary.
        num_alternatives: other secrets for each planted one, where not all are taken.
        full_ranking: where a kind has so many possible secrets or fewer, all are taken.
    """

    spaces: Mapping[str, SecretSpace] = field(default_factory=dict, repr=False)
    num_alternatives: int = 0
    full_ranking: int = 0

    def num_possible(self, kind: str) -> int:
        """How many secrets of a kind a planted one may be: the others and itself; 0 where the kind has none."""
        return self.spaces[kind].size + 1 if kind in self.spaces else 0

    def takes_all(self, kind: str) -> bool:
        """Whether a planted one of a kind is ranked against all others."""
        return 0 < self.num_possible(kind) <= self.full_ranking


def make_case(
    coins: Sequence[Coin],
    reader: Reader,
    *,
    is_randomised: bool,
    seed: int,
    held_out: Sequence[Record] = (),
    secrets: Secrets | None = None,
    read: Mapping[str, frozenset[str]] | None = None,
) -> Case:
    """Puts an audit's questions together.

    Args:
        coins: every item that may have been trained on, and whether it was.
        reader: makes candidates.
        is_randomised: whether fair coins decided.
        seed: of the order in which candidates stand, which tells nothing.
        held_out: records that nobody trained on and no coin decided about.
        secrets: what planted secrets are ranked against.
        read: by client, the ids of the training records that training came to; None if it came to all. An item that
            was to be trained on and that training never came to is left out, and counted.
    """
    questions = _Questions(reader, secrets or Secrets(), read, seed)
    for coin in sorted(coins, key=lambda one: stream(seed, "audit order", one.item_id).integers(1 << 62)):
        questions.add(coin)
    populations = questions.populations()
    others = [
        candidate.example
        for population in populations
        for candidate in population.candidates
        if not questions.members[candidate.candidate_id]
    ]
    examples = reader.examples(held_out)
    return Case(
        populations=populations,
        truth=Truth(
            members=questions.members,
            copies=questions.copies,
            secrets=questions.secrets,
            is_randomised=is_randomised,
        ),
        held_out=examples,
        unseen=examples or tuple(others),
        counts=dict(questions.counts),
        fingerprint=_fingerprint(coins),
    )


def _fingerprint(coins: Sequence[Coin]) -> bytes:
    items = sorted(
        (coin.item_id, coin.client, coin.kind, [whole_text(record) for record in coin.records]) for coin in coins
    )
    return hashlib.sha256(json.dumps(items).encode()).digest()


class _Questions:
    """Collects candidates kind by kind, and the answers apart from them."""

    def __init__(self, reader: Reader, planted: Secrets, read: Mapping[str, frozenset[str]] | None, seed: int) -> None:
        self.members: dict[str, bool] = {}
        self.copies: dict[str, int] = {}
        self.secrets: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self._reader = reader
        self._planted = planted
        self._read = read
        self._seed = seed
        self._candidates: dict[str, list[Candidate]] = {}
        self._lower: dict[str, list[Candidate | None]] = {}
        self._alternatives: dict[str, dict[str, tuple[Candidate, ...]]] = {}
        self._every_secret: dict[str, dict[str, Callable[[], PossibleSecrets]]] = {}

    def add(self, coin: Coin) -> None:
        candidate = self._reader.candidate(coin.item_id, coin.records[0], coin.client, coin.secret)
        if candidate is None:
            self.counts[f"{coin.kind}: {CUT_OFF}"] += 1
            return
        copies = self._num_read(coin) if coin.included else coin.copies
        if copies == 0:
            self.counts[f"{coin.kind}: {NEVER_REACHED}"] += 1
            return
        self._candidates.setdefault(coin.kind, []).append(candidate)
        self.members[coin.item_id] = coin.included
        self.copies[coin.item_id] = copies
        self.counts[f"{coin.kind}: {'members' if coin.included else 'others'}"] += 1
        if coin.secret is None:
            twin = self._reader.candidate(coin.item_id, lowered(coin.records[0]), coin.client)
            self._lower.setdefault(coin.kind, []).append(twin)
        else:
            self.secrets[coin.item_id] = coin.secret
            self._add_others(coin, coin.secret, candidate)

    def populations(self) -> tuple[Population, ...]:
        return tuple(
            Population(
                name=kind,
                candidates=tuple(candidates),
                lower=self._twins(kind),
                alternatives=self._alternatives.get(kind, {}),
                every_secret=self._every_secret.get(kind, {}),
                num_possible=self._planted.num_possible(kind),
                num_unread=self.counts[f"{kind}: {NEVER_REACHED}"],
            )
            for kind, candidates in sorted(self._candidates.items())
        )

    def _num_read(self, coin: Coin) -> int:
        if self._read is None:
            return coin.copies
        return sum(record.record_id in self._read.get(coin.client, frozenset()) for record in coin.records)

    def _twins(self, kind: str) -> tuple[Candidate, ...] | None:
        twins = self._lower.get(kind, [None])
        found = tuple(twin for twin in twins if twin is not None)
        return found if len(found) == len(twins) else None

    def _add_others(self, coin: Coin, secret: str, candidate: Candidate) -> None:
        if not self._planted.takes_all(coin.kind):
            self._alternatives.setdefault(coin.kind, {})[coin.item_id] = self._others_than(coin, secret)
            return
        others = self._planted.spaces[coin.kind]
        # Several views ask: tokenising takes longer than a fast machine's passes, and ids take 4 bytes each.
        make = cache(partial(self._reader.possible_secrets, candidate, coin.records[0], secret, others))
        self._every_secret.setdefault(coin.kind, {})[coin.item_id] = make

    def _others_than(self, coin: Coin, secret: str) -> tuple[Candidate, ...]:
        space = self._planted.spaces[coin.kind]
        others = space.sample(self._planted.num_alternatives, stream(self._seed, "audit alternatives", coin.item_id))
        made = (
            self._reader.candidate(coin.item_id, with_secret(coin.records[0], secret, other), coin.client, other)
            for other in others
        )
        return tuple(one for one in made if one is not None)
