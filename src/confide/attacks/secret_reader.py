"""Reads what a model says of all secrets that could stand in one place: each of their beginnings is read once."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from confide.attacks.secret_trie import Ints, SecretTrie
from confide.data.batches import collate
from confide.data.examples import TokenizedExample
from confide.model.load import pad_token_id
from confide.model.lora import AdaptedModel
from confide.train.forward import TargetScorer, TokenTree

Floats = npt.NDArray[np.float64]

_TOKENS_AT_ONCE = 256  # of a tree: enough for full speed, and few beside the tokens that each of them looks back at
_LOGITS_IN_MEMORY = 1 << 23  # 32 MiB of float32, and as much again for their logarithms


class SecretReader:
    """Runs a model over secrets, whatever it holds at the time.

    Where the model allows it (`TargetScorer.reads_trees`), what stands before the secrets is read once, and from there
    their beginnings as a tree. One of these is read as a whole too: if that gives something else than rounding
    explains, and for all other models, every beginning that is one token short of a secret is read as a whole.

    Args:
        scorer: of the model.
        model: as the scorer has it.
        batch_size: whole beginnings at a time.
    """

    def __init__(self, scorer: TargetScorer, model: AdaptedModel, batch_size: int) -> None:
        self._scorer = scorer
        self._device = model.base.device
        self._pad_id = pad_token_id(model.tokenizer)
        self._batch_size = batch_size if scorer.splits_head else 1

    @torch.no_grad()
    def read(self, beginning: Ints, secrets: npt.NDArray[np.int32]) -> Floats:
        """Gives the log-probability of each secret behind a beginning, in nats, <= 0.

        Args:
            beginning: token ids, shape (num_before,), at least one.
            secrets: token ids, shape (num_secrets, num_tokens), no dimension empty.

        Returns:
            Shape (num_secrets,), float64: sums of the tokens' float32 log-probabilities. Equal secrets have equal ones.
            NaN or infinite where the model's numbers are.
        """
        trie = SecretTrie.of(secrets)
        logp = np.full(trie.rows.shape, np.nan, np.float32)
        for nodes, states in self._states(beginning, trie):
            self._fill(logp, trie, nodes, states)
        # The sum of rounded values of certain tokens may end up a hair above 0.
        sums: Floats = np.minimum(logp.sum(axis=1, dtype=np.float64), 0.0)
        return sums[trie.row_of]

    def _fill(self, logp: npt.NDArray[np.float32], trie: SecretTrie, nodes: Ints, states: Tensor) -> None:
        """Puts the log-probabilities of all tokens that follow on some nodes where they belong."""
        num_rows = max(1, _LOGITS_IN_MEMORY // self._scorer.logits(states[:1]).shape[-1])
        for start in range(0, nodes.size, num_rows):
            places, rows, columns = trie.cells(nodes[start : start + num_rows])
            following = self._scorer.logits(states[start : start + num_rows]).log_softmax(dim=-1)
            found = following[self._tensor(places), self._tensor(trie.rows[rows, columns])]
            logp[rows, columns] = found.cpu().numpy()

    def _states(self, beginning: Ints, trie: SecretTrie) -> Iterator[tuple[Ints, Tensor]]:
        """Every node at least once, with what the scorer turns into logits behind it."""
        if not self._scorer.reads_trees(beginning.size + trie.rows.shape[1]):
            yield from self._by_whole_beginnings(beginning, trie)
            return
        stretches = list(trie.stretches(_TOKENS_AT_ONCE))
        trees = (TokenTree(tokens=self._tensor(one.tokens), parents=self._tensor(one.parents)) for one in stretches)
        found = self._scorer.tree_states(self._tensor(beginning), trees)
        yield np.zeros(1, np.int64), next(found)
        for number, (stretch, states) in enumerate(zip(stretches, found, strict=True)):
            own = states[stretch.num_ancestors :]
            # The last token stands behind most others that are none of its business.
            if number == 0 and not self._is_as_whole(own[-1], beginning, trie, int(stretch.nodes[-1])):
                yield from self._by_whole_beginnings(beginning, trie)
                return
            yield stretch.nodes, own

    def _is_as_whole(self, state: Tensor, beginning: Ints, trie: SecretTrie, node: int) -> bool:
        row, depth = trie.starts[node], trie.depths[node]
        expected = self._whole(beginning, trie.rows[row : row + 1, : depth + 1])[0, -1]
        # As in `TargetScorer.reads_on`: a token that is wrongly seen changes a state by a good part of its length.
        room = torch.finfo(expected.dtype).eps ** 0.5
        return bool((state - expected).float().norm() <= room * expected.float().norm())

    def _by_whole_beginnings(self, beginning: Ints, trie: SecretTrie) -> Iterator[tuple[Ints, Tensor]]:
        longest = np.flatnonzero(trie.depths == trie.rows.shape[1] - 1)
        for start in range(0, longest.size, self._batch_size):
            rows = trie.starts[longest[start : start + self._batch_size]]
            paths = trie.paths[rows]
            is_first = trie.starts[paths] == rows[:, None]  # a beginning of several of them is taken once
            yield paths[is_first], self._whole(beginning, trie.rows[rows])[self._tensor(is_first)]

    def _whole(self, beginning: Ints, ends: Ints) -> Tensor:
        """What predicts each token of some ends of equal length, shape (num_ends, num_tokens, width or vocabulary)."""
        ids = np.concatenate([np.broadcast_to(beginning, (len(ends), beginning.size)), ends], axis=1)
        examples = [
            TokenizedExample(record_id="", input_ids=one, loss_mask=np.arange(one.size) >= beginning.size)
            for one in ids
        ]
        states, _ = self._scorer.states(collate(examples, pad_token_id=self._pad_id).to(self._device))
        return states.reshape(*ends.shape, -1)

    def _tensor(self, values: Ints | npt.NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(values).to(self._device)
