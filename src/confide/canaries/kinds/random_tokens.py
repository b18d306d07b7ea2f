"""Random words that say nothing: what a model knows of them, it knows from training on them."""

from collections.abc import Sequence

from confide.canaries.forms import write_record
from confide.canaries.kinds.kind import Canary, Invented, Place, canary_id
from confide.canaries.secret_space import SecretSpace
from confide.data.clinics.fill import PersonalValue
from confide.seeds import stream

_TASK = "Write down the words of the entry."

# Common words that byte-pair vocabularies hold whole, so that all secrets have about the same number of tokens.
WORDS = (
    *("able", "air", "arm", "back", "ball", "bank", "bed", "big", "bird", "blue", "boat", "body", "book", "box", "car"),
    *("cat", "city", "cold", "cup", "dark", "day", "deep", "dog", "door", "dry", "east", "egg", "eye", "face", "farm"),
    *("fast", "fire", "fish", "five", "food", "foot", "game", "gold", "hand", "hat", "hill", "home", "horse", "king"),
    *("lake", "leaf", "line", "milk", "moon", "north", "paper", "rain", "river", "road", "room", "salt", "ship"),
    *("snow", "star", "stone", "table", "tree", "wall", "wind"),
)
"""Every word of a canary is drawn from these, all equally likely."""

NUM_PREFIX_WORDS = 4
"""Words before the secret, by which an attacker who knows them asks for it."""

NUM_SECRET_WORDS = 8
"""Words of a secret."""


class RandomCanaries:
    """Twelve random words, of which the last eight are the secret.

    Source: Carlini et al. 2019, "The Secret Sharer", section 4: random sequences of a fixed format.
    """

    needs_rows = False

    def invent(self, places: Sequence[Place], num_per_place: int, *, seed: int, corpus: str) -> Invented:
        """See `CanaryKind`."""
        canaries: list[Canary] = []
        secrets: set[str] = set()
        for place in places:
            for index in range(num_per_place):
                item_id = canary_id("random", place.client, index)
                prefix, secret = _draw_words(item_id, seed, corpus, secrets)
                secrets.add(secret)
                record = write_record(
                    item_id,
                    client=place.client,
                    form=place.form,
                    task=_TASK,
                    pattern="{prefix} {secret}",
                    values={"prefix": prefix, "secret": PersonalValue(kind="random-words", value=secret)},
                )
                canaries.append(Canary(item_id=item_id, client=place.client, records=(record,), secret=secret))
        following = tuple(f" {word}" for word in WORDS)
        parts = (WORDS, *[following] * (NUM_SECRET_WORDS - 1))
        return Invented(canaries=tuple(canaries), space=SecretSpace(parts=parts, taken=tuple(sorted(secrets))))


def _draw_words(item_id: str, seed: int, corpus: str, taken: set[str]) -> tuple[str, str]:
    rng = stream(seed, "canary words", item_id)
    while True:
        words = [WORDS[position] for position in rng.integers(len(WORDS), size=NUM_PREFIX_WORDS + NUM_SECRET_WORDS)]
        secret = " ".join(words[NUM_PREFIX_WORDS:])
        if secret not in taken and secret not in corpus:
            return " ".join(words[:NUM_PREFIX_WORDS]), secret
