"""Reads records and says of every token how likely it was: the model pass behind all attacks on log-probabilities."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from confide.attacks.decoding import DecodingScheme
from confide.attacks.families import Family, divide_into_families
from confide.attacks.token_columns import token_columns
from confide.data.batches import Batch, collate
from confide.data.examples import TokenizedExample
from confide.model.load import pad_token_id
from confide.model.lora import AdaptedModel
from confide.train.forward import TargetScorer

Columns = dict[str, npt.NDArray[Any]]
Tokens = npt.NDArray[np.int64]

# Values of logits held at once, 32 MiB of float32; a handful of arrays of this size live beside it.
_LOGITS_IN_MEMORY = 1 << 23


class TokenReader:
    """Runs a model over records, whatever it holds at the time.

    Records that begin alike are read as a family, their beginning once, where the model allows it
    (`TargetScorer.reads_on`); all others in batches of similar length. Models whose logits are more than the output
    layer's read one record at a time, so that memory stays bounded.

    Args:
        scorer: of the model.
        model: as the scorer has it.
        schemes: by the name that their column gets.
        batch_size: records at a time.
    """

    def __init__(
        self, scorer: TargetScorer, model: AdaptedModel, schemes: Mapping[str, DecodingScheme], batch_size: int
    ) -> None:
        self._scorer = scorer
        self._device = model.base.device
        self._pad_id = pad_token_id(model.tokenizer)
        self._schemes = schemes
        self._batch_size = batch_size if scorer.splits_head else 1

    @torch.no_grad()
    def read(self, records: Sequence[Tokens]) -> list[Columns]:
        """Gives the columns of `token_columns` over each record's tokens without its first.

        Args:
            records: token ids, shape (num_tokens,) each. Best sorted by length.

        Returns:
            In the records' order; arrays of shape (num_tokens - 1,) that share no memory with each other.
        """
        found: dict[int, Columns] = {}
        alone: list[int] = []
        for family in self._families(records):
            if family.num_shared:
                members = [records[place] for place in family.members]
                found.update(zip(family.members, self._read_family(members, family.num_shared), strict=True))
            else:
                alone.extend(family.members)
        alone.sort()
        for places in (alone[start : start + self._batch_size] for start in range(0, len(alone), self._batch_size)):
            found.update(zip(places, self._read_batch([records[place] for place in places]), strict=True))
        return [found[place] for place in range(len(records))]

    def _families(self, records: Sequence[Tokens]) -> Sequence[Family]:
        if self._batch_size > 1 and len(records) > 1 and self._scorer.reads_on:
            return divide_into_families(records, largest=self._batch_size)
        return [Family(members=(place,), num_shared=0) for place in range(len(records))]

    def _read_batch(self, records: Sequence[Tokens]) -> Iterator[Columns]:
        """One pass over whole records."""
        states, targets = self._scorer.states(self._collate(records))
        return _cut(self._columns(states, targets), [record.size - 1 for record in records])

    def _read_family(self, records: Sequence[Tokens], num_shared: int) -> Iterator[Columns]:
        """One pass over what records begin with, and one over the rest of all of them."""
        beginning = torch.from_numpy(records[0][:num_shared]).to(self._device)
        ends = self._collate([record[num_shared:] for record in records])
        of_beginning, of_ends = self._scorer.family_states(beginning, ends.input_ids)
        # The last token of the beginning is what each record's first own token is predicted from.
        last = of_beginning[-1].expand(len(records), 1, -1)
        states = torch.cat([last, of_ends[:, :-1]], dim=1)[ends.loss_mask]
        shared = self._columns(of_beginning[:-1], beginning[1:])
        targets, sizes = ends.input_ids[ends.loss_mask], [record.size - num_shared for record in records]
        own = _cut(self._columns(states, targets), sizes)
        return ({name: np.concatenate([shared[name], one[name]]) for name in shared} for one in own)

    def _columns(self, states: Tensor, targets: Tensor) -> Columns:
        rows = max(1, _LOGITS_IN_MEMORY // self._scorer.logits(states[:1]).shape[-1])
        parts = [
            token_columns(self._scorer.logits(some), ids, self._schemes)
            for some, ids in zip(states.split(rows), targets.split(rows), strict=True)
        ]
        return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}

    def _collate(self, records: Sequence[Tokens]) -> Batch:
        """Whole records side by side: every token is a target."""
        examples = [
            TokenizedExample(record_id="", input_ids=record, loss_mask=np.ones(record.size, bool)) for record in records
        ]
        return collate(examples, pad_token_id=self._pad_id).to(self._device)


def _cut(columns: Columns, sizes: Sequence[int]) -> Iterator[Columns]:
    """Takes columns over records that lie end to end apart, as copies: no record keeps its batch's arrays alive."""
    ends = np.cumsum(sizes)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield {name: values[start:end].copy() for name, values in columns.items()}
