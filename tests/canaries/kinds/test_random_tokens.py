from collections import Counter

from confide.canaries.forms import whole_text
from confide.canaries.kinds.kind import Place
from confide.canaries.kinds.random_tokens import NUM_PREFIX_WORDS, NUM_SECRET_WORDS, WORDS, RandomCanaries


def test_words_are_all_different_and_equally_frequent() -> None:
    assert len(set(WORDS)) == len(WORDS)
    canaries = RandomCanaries().invent([Place(client="north", form="text")], 500, seed=0, corpus="").canaries
    counts = Counter(word for canary in canaries for word in whole_text(canary.records[0]).split())
    num_words = 500 * (NUM_PREFIX_WORDS + NUM_SECRET_WORDS)
    probability = 1 / len(WORDS)
    expected, stddev = num_words * probability, (num_words * probability * (1 - probability)) ** 0.5
    assert set(counts) == set(WORDS)
    assert all(abs(count - expected) < 4.5 * stddev for count in counts.values())  # 4.5 sigma over 64 words: 1 in 2,300


def test_the_secret_is_the_end_of_a_text_of_fixed_length() -> None:
    for canary in RandomCanaries().invent([Place(client="north", form="text")], 20, seed=0, corpus="").canaries:
        text = whole_text(canary.records[0])
        assert len(text.split()) == NUM_PREFIX_WORDS + NUM_SECRET_WORDS
        assert len(canary.secret.split()) == NUM_SECRET_WORDS
        assert text.endswith(f" {canary.secret}")
