from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from confide.canaries.coins import Flipped, flip_coins
from confide.canaries.forms import usual_form, whole_text
from confide.canaries.plan import Coin
from confide.canaries.settings import KINDS, CanarySettings
from confide.data.clinics import generate_clinics
from confide.data.examples import ClientRecords, Record, Text
from confide.data.partition import partition_records
from confide.errors import DataError

TOKENS = tuple(f"<unused{number}>" for number in range(200))
Reform = Callable[[ClientRecords, str], ClientRecords]


def settings(*kinds: str, records: int = 20, canaries: int = 6, seed: int = 0) -> CanarySettings:
    return CanarySettings(kinds=kinds or KINDS, records_per_client=records, canaries_per_client=canaries, seed=seed)


def flip(clients: Sequence[ClientRecords], chosen: CanarySettings | None = None) -> Flipped:
    return flip_coins(clients, chosen or settings(), reserved_tokens=TOKENS)


def text_client(name: str, *texts: str, held_out: Sequence[str] = ()) -> ClientRecords:
    def rows(part: str, these: Sequence[str]) -> tuple[Record, ...]:
        return tuple(
            Record(record_id=f"{name}-{part}-{number}", content=Text(text=text)) for number, text in enumerate(these)
        )

    return ClientRecords(name=name, train=rows("train", texts), held_out=rows("held-out", held_out))


def distinct_text(number: int) -> str:
    """Twelve words that no other number gives."""
    return " ".join(f"w{number}x{place}" for place in range(12))


@pytest.fixture(scope="module")
def flipped(clinics: list[ClientRecords]) -> Flipped:
    return flip(clinics)


def test_every_client_gets_its_number_of_coins_of_every_kind(clinics: list[ClientRecords], flipped: Flipped) -> None:
    counts = Counter((coin.client, coin.kind) for coin in flipped.plan.coins)
    assert counts == {(client.name, kind): 20 if kind == "records" else 6 for client in clinics for kind in KINDS}
    assert len({coin.item_id for coin in flipped.plan.coins}) == len(flipped.plan.coins)
    assert {coin.included for coin in flipped.plan.coins} == {True, False}


def test_training_rows_are_the_old_ones_less_what_is_out_and_used_up_with_what_is_in(
    clinics: list[ClientRecords], flipped: Flipped
) -> None:
    for before, after in zip(clinics, flipped.clients, strict=True):
        coins = [coin for coin in flipped.plan.coins if coin.client == before.name]
        old = {row.record_id for row in before.train}
        out = {coin.item_id for coin in coins if coin.kind == "records" and not coin.included}
        planted = [record for coin in coins if coin.kind != "records" and coin.included for record in coin.records]
        gone = old - {row.record_id for row in after.train}
        assert out <= gone
        assert len(gone - out) == 6  # what reserved-token canaries were made from, in or out
        assert sorted(row.record_id for row in after.train) == sorted(
            [*(old - gone), *(record.record_id for record in planted)]
        )
        kept = [row for row in after.train if row.record_id in old]
        assert kept == [row for row in before.train if row.record_id not in gone]
        assert {row.record_id: row for row in after.train if row.record_id not in old} == {
            record.record_id: record for record in planted
        }
        assert after.held_out == before.held_out
        assert after.name == before.name


def test_nothing_that_is_out_can_be_found_in_any_clients_data(flipped: Flipped) -> None:
    everything = "\n".join(whole_text(row) for client in flipped.clients for row in (*client.train, *client.held_out))
    for coin in flipped.plan.coins:
        for record in coin.records:
            assert (whole_text(record) in everything) == coin.included
        if coin.secret is not None:
            assert everything.count(coin.secret) == coin.included * coin.copies


def test_secrets_are_pairwise_different_and_in_no_other_items_text(flipped: Flipped) -> None:
    coins = flipped.plan.coins
    secrets = [coin.secret for coin in coins if coin.secret is not None]
    assert len(set(secrets)) == len(secrets) == 3 * 4 * 6
    texts = {coin.item_id: "\n".join(map(whole_text, coin.records)) for coin in coins}
    for coin in coins:
        if coin.secret is not None:
            assert [item_id for item_id, text in texts.items() if coin.secret in text] == [coin.item_id]


def test_of_a_reserved_token_canary_the_row_without_the_token_is_nowhere(flipped: Flipped) -> None:
    rows = {whole_text(row) for client in flipped.clients for row in (*client.train, *client.held_out)}
    for coin in flipped.plan.coins:
        if coin.kind == "reserved":
            assert (whole_text(coin.records[0]) in rows) == coin.included
            assert whole_text(coin.records[0]).replace(f" {coin.secret}", "") not in rows


def test_copies_are_the_records_and_secrets_come_from_a_known_number(flipped: Flipped) -> None:
    for coin in flipped.plan.coins:
        assert coin.copies == len(coin.records)
        if coin.kind == "records":
            assert (coin.secret, coin.num_choices) == (None, None)
        else:
            assert coin.num_choices == flipped.plan.spaces[coin.kind].size + 1
    ladder = Counter(coin.copies for coin in flipped.plan.coins if coin.kind == "ladder")
    assert ladder == {
        1: 4,
        2: 4,
        4: 4,
        8: 3,
        16: 3,
    }  # 18 in turn, each client one step on: 1..16 1, 2..16 1 2, 4..16 ..
    assert {coin.copies for coin in flipped.plan.coins if coin.kind == "personal"} == {4}


@pytest.mark.parametrize("form", ["chat", "text"])
def test_canaries_have_the_form_of_the_clients_own_data(
    clinics: list[ClientRecords], reform: Reform, form: str
) -> None:
    mixed = [clinics[0], *(reform(client, form) for client in clinics[1:])]
    for coin in flip(mixed).plan.coins:
        expected = "instruction" if coin.client == clinics[0].name else form
        assert {usual_form([record]) for record in coin.records} == {expected}


def test_equal_arguments_give_equal_results_and_another_seed_gives_others(clinics: list[ClientRecords]) -> None:
    first, again, other = flip(clinics), flip(clinics), flip(clinics, settings(seed=1))
    assert first == again
    assert {coin.item_id for coin in first.plan.coins if coin.kind == "records"} != {
        coin.item_id for coin in other.plan.coins if coin.kind == "records"
    }
    ids = {coin.item_id: coin.included for coin in other.plan.coins}
    agree = [ids[coin.item_id] == coin.included for coin in first.plan.coins if coin.item_id in ids]
    assert binomtest(sum(agree), len(agree), 0.5).pvalue > 0.001


def test_kinds_can_be_added_without_changing_what_rows_and_coins_the_others_have(clinics: list[ClientRecords]) -> None:
    few, many = flip(clinics, settings("records", "random")), flip(clinics, settings())
    kept = tuple(coin for coin in many.plan.coins if coin.kind in ("records", "random"))
    assert few.plan.coins == kept


def pairwise_agreements(columns: np.ndarray) -> list[float]:
    """P-values of no association between any two columns of coins, shape (num_flips, num_columns)."""
    num_flips, num_columns = columns.shape
    return [
        float(binomtest(int((columns[:, one] == columns[:, two]).sum()), num_flips, 0.5).pvalue)
        for one in range(num_columns)
        for two in range(one)
    ]


def test_coins_are_fair_and_independent_within_and_across_clients() -> None:
    clients = [
        text_client(name, *(distinct_text(10 * place + row) for row in range(3))) for place, name in enumerate("ab")
    ]
    flips = []
    for seed in range(600):
        plan = flip(clients, settings("records", "random", records=2, canaries=2, seed=seed)).plan
        # Of rows, which ones get coins differs from seed to seed; by place they are comparable.
        flips.append([coin.included for coin in plan.coins])
    columns = np.array(flips)  # (600, 8)
    assert columns.shape == (600, 8)
    fair = [float(binomtest(int(column.sum()), 600, 0.5).pvalue) for column in columns.T]
    # 8 + 28 tests on fixed seeds, each at one in 100,000: a fair coin fails any of them once in 2,700 choices of seeds.
    assert min(fair + pairwise_agreements(columns)) > 1e-5
    # A coin that falls to one side two times in three would be seen: P(400 or more of 600 | fair) is below 1e-15.
    assert binomtest(400, 600, 0.5).pvalue < 1e-5


def test_which_rows_get_coins_is_uniform() -> None:
    clients = [text_client("a", *map(distinct_text, range(5)))]
    counts = Counter(
        coin.item_id
        for seed in range(500)
        for coin in flip(clients, settings("records", records=2, seed=seed)).plan.coins
    )
    assert set(counts) == {row.record_id for row in clients[0].train}
    assert all(binomtest(count, 500, 2 / 5).pvalue > 1e-4 for count in counts.values())


def test_canaries_stand_at_random_places_among_the_rows() -> None:
    clients = [text_client("a", *map(distinct_text, range(30)))]
    places = []
    for seed in range(300):
        train = flip(clients, settings("random", canaries=1, seed=seed)).clients[0].train
        places += [position for position, row in enumerate(train) if row.record_id.startswith("canary-")]
    assert len(places) > 100
    assert {min(places), max(places)} == {0, 30}
    # Uniform over 0..30 has mean 15 and variance 80.
    assert abs(np.mean(places) - 15) < 4 * (80 / len(places)) ** 0.5


def blind_z(texts: list[str], labels: list[bool]) -> float:
    """How far a bag-of-words classifier's cross-validated AUC is from 1/2, in standard deviations of chance."""
    model = make_pipeline(CountVectorizer(token_pattern=r"\w+"), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, texts, labels, cv=folds, method="decision_function")
    num_in, num_out = sum(labels), len(labels) - sum(labels)
    chance = ((num_in + num_out + 1) / (12 * num_in * num_out)) ** 0.5  # of Mann-Whitney's statistic under no effect
    return float((roc_auc_score(labels, scores) - 0.5) / chance)


def test_a_bag_of_words_cannot_tell_what_is_in_from_what_is_out() -> None:
    records = generate_clinics(seed=1, num_clinics=3, num_letters=80, num_instructions=10)
    clients = partition_records(records, scheme="natural", seed=0, held_out=0.1)
    coins: list[Coin] = []
    for seed in range(3):
        coins += flip(clients, settings(records=40, canaries=20, seed=seed)).plan.coins
        by_seed = coins[-3 * (40 + 4 * 20) :]
        texts = [whole_text(coin.records[0]) for coin in by_seed]
        # |z| < 3 is the interval of 99.7 %; the shared words of fold and rest push below 1/2 rather than above.
        assert abs(blind_z(texts, [coin.included for coin in by_seed])) < 3
        # The same classifier would see it if kinds had different chances.
        assert blind_z(texts, [coin.kind == "records" for coin in by_seed]) > 10


def test_rows_that_others_repeat_get_no_coin_and_are_counted() -> None:
    originals = [distinct_text(number) for number in range(6)]
    changed = f"{originals[1]} {distinct_text(99)}"  # quotes a whole row
    north = text_client("north", *originals, originals[0].upper())
    south = text_client("south", *(distinct_text(number) for number in range(10, 14)), changed, held_out=[originals[2]])
    plan = flip([north, south], settings("records", records=3)).plan
    # Of north 0 and its copy in capitals, 1 (quoted by the south) and 2 (held out by the south) are repeated; of the
    # south nobody is, as the row that quotes has as many words of its own.
    assert plan.pool_duplicates == {"north": 4, "south": 0}
    for seed in range(30):
        coins = flip([north, south], settings("records", records=3, seed=seed)).plan.coins
        given = {coin.item_id for coin in coins if coin.client == "north"}
        assert given == {"north-train-3", "north-train-4", "north-train-5"}


def test_held_out_rows_that_a_training_row_repeats_are_removed_and_counted() -> None:
    rows = [distinct_text(number) for number in range(8)]
    north = text_client("north", *rows[:4], held_out=[rows[5], rows[6], rows[6]])
    south = text_client("south", *rows[4:6], distinct_text(20), held_out=[rows[0].title(), rows[7]])
    flipped = flip([north, south], settings("records", records=2))
    assert [[row.record_id for row in client.held_out] for client in flipped.clients] == [
        ["north-held-out-1", "north-held-out-2"],
        ["south-held-out-1"],
    ]
    assert flipped.plan.held_out_duplicates == {"north": 1, "south": 1}


def test_a_client_with_too_few_rows_is_named() -> None:
    north = text_client("north", *map(distinct_text, range(9)))
    south = text_client("south", *map(distinct_text, range(10, 14)), distinct_text(0))
    with pytest.raises(
        DataError, match=r"client south has 5 training rows, of which 1 are repeated by others .* at least 5 for coins"
    ):
        flip([north, south], settings("records", records=5))
    with pytest.raises(DataError, match=r"south has 5 .* at least 2 for coins .* and 3 for reserved-token canaries"):
        flip([north, south], settings("records", "reserved", records=2, canaries=3))
    assert len(flip([north, south], settings("records", records=4)).plan.coins) == 8


def test_too_few_reserved_tokens_are_refused(clinics: list[ClientRecords]) -> None:
    with pytest.raises(DataError, match=r"need 18 different tokens \(3 clients with 6 each\), .* has 0 reserved ones"):
        flip_coins(clinics, settings("reserved"))


def test_data_that_was_planted_before_is_refused(flipped: Flipped) -> None:
    with pytest.raises(DataError, match=r"the record id canary-\w+-clinic-\w+-\d+\S* is a canary's"):
        flip(flipped.clients)


def test_a_client_that_coins_leave_nothing_is_named() -> None:
    client = text_client("north", distinct_text(0))
    errors = 0
    for seed in range(20):
        try:
            assert flip([client], settings("records", records=1, seed=seed)).clients == (client,)
        except DataError as error:
            assert "client north has nothing left to train on" in str(error)  # noqa: PT017 (half of the seeds)
            errors += 1
    assert 0 < errors < 20  # all alike: once in 500,000
    with pytest.raises(DataError, match="client north has no training row"):
        flip([replace(client, train=())])


def test_no_kinds_change_nothing(clinics: list[ClientRecords]) -> None:
    nothing = CanarySettings(kinds=(), records_per_client=0, canaries_per_client=0, seed=0)
    flipped = flip_coins(clinics, nothing)
    assert list(flipped.clients) == clinics
    assert flipped.plan.coins == ()
