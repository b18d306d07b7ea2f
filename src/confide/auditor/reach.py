"""Which of its records a client's training came to: a run of few steps does not read all of them."""

from collections.abc import Sequence

from confide.data.batches import example_order
from confide.data.examples import TokenizedClient
from confide.train.local import LocalSettings


def records_read(
    clients: Sequence[TokenizedClient],
    num_rounds: dict[str, int],
    settings: LocalSettings,
    *,
    seed: int,
    is_sampled: bool = False,
) -> dict[str, frozenset[str]]:
    """Gives the ids of the records that each client's updates were trained on.

    Args:
        clients: with their data as tokens.
        num_rounds: by client, how many rounds' sums hold its update.
        settings: of local training.
        seed: of the run.
        is_sampled: whether secret coins decided what each step reads, as in private training. Then every record of a
            client that took part counts as read: each had the same chance, and nobody knows which had luck.

    Returns:
        By client. A record that was cut to nothing is not among them.
    """
    found = {}
    for client in clients:
        size = len(client.train)
        if is_sampled:
            met = client.train if num_rounds.get(client.name, 0) else ()
            found[client.name] = frozenset(example.record_id for example in met)
            continue
        # The walk goes on from round to round, and only over rounds whose update was counted.
        count = min(size, num_rounds.get(client.name, 0) * settings.num_examples(size))
        walk = example_order(size, 0, count, seed=seed, client=client.name)
        found[client.name] = frozenset(client.train[position].record_id for position in walk)
    return found
