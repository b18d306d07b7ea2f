"""The tree of secrets' beginnings against its definition: a set of tuples."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.secret_trie import SecretTrie

SECRETS = (
    st.integers(1, 4)
    .flatmap(
        lambda num_tokens: st.lists(
            st.lists(st.integers(0, 3), min_size=num_tokens, max_size=num_tokens), min_size=1, max_size=30
        )
    )
    .map(lambda rows: np.array(rows, np.int32))
)


def beginnings(secrets: npt.NDArray[np.int32]) -> set[tuple[int, ...]]:
    """All that are shorter than a secret, the empty one among them."""
    return {tuple(row[:size]) for row in secrets.tolist() for size in range(secrets.shape[1])}


def beginning_of(trie: SecretTrie, node: int) -> tuple[int, ...]:
    return tuple(trie.rows[trie.starts[node], : trie.depths[node]].tolist())


@given(SECRETS)
def test_nodes_are_the_different_beginnings(secrets: npt.NDArray[np.int32]) -> None:
    trie = SecretTrie.of(secrets)
    np.testing.assert_array_equal(trie.rows[trie.row_of], secrets)
    nodes = [beginning_of(trie, node) for node in range(trie.num_nodes)]
    assert nodes == sorted(beginnings(secrets))  # a beginning stands before all that go on from it
    for row, path in zip(trie.rows.tolist(), trie.paths.tolist(), strict=True):
        assert [nodes[node] for node in path] == [tuple(row[:size]) for size in range(len(row))]


@given(SECRETS, st.integers(1, 6))
def test_stretches_have_every_node_once_behind_what_leads_to_it(
    secrets: npt.NDArray[np.int32], most_tokens: int
) -> None:
    trie, seen = SecretTrie.of(secrets), [0]
    for stretch in trie.stretches(most_tokens):
        seen.extend(stretch.nodes.tolist())
        assert stretch.tokens.size <= max(most_tokens, stretch.num_ancestors + 1)
        read: list[tuple[int, ...]] = []
        for token, parent in zip(stretch.tokens.tolist(), stretch.parents.tolist(), strict=True):
            assert parent < len(read)
            read.append((*(read[parent] if parent >= 0 else ()), token))
        assert read[stretch.num_ancestors :] == [beginning_of(trie, node) for node in stretch.nodes.tolist()]
    assert seen == list(range(trie.num_nodes))


@given(SECRETS)
def test_the_cells_of_all_nodes_are_all_tokens_of_all_rows(secrets: npt.NDArray[np.int32]) -> None:
    trie = SecretTrie.of(secrets)
    places, rows, columns = trie.cells(np.arange(trie.num_nodes))
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [
        (row, column) for row in range(trie.rows.shape[0]) for column in range(trie.rows.shape[1])
    ]
    np.testing.assert_array_equal(trie.paths[rows, columns], places)


def test_ten_thousand_numbers_have_1111_beginnings() -> None:
    numbers = np.array([[int(digit) for digit in f"{number:04d}"] for number in range(10_000)], np.int32)
    assert SecretTrie.of(numbers).num_nodes == 1111
