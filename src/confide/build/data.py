"""From a configuration to records, templates and examples."""

from collections.abc import Sequence
from dataclasses import replace

from confide.canaries.coins import Flipped, flip_coins
from confide.canaries.plan import CoinPlan
from confide.canaries.reserved_tokens import find_reserved_tokens, let_through
from confide.canaries.settings import CanarySettings
from confide.config.schema import Config
from confide.data.clinics import generate_clinics
from confide.data.examples import ClientRecords, Record, TokenizedClient
from confide.data.partition import NEEDED_FIELD, partition_records
from confide.data.rows import ColumnNames
from confide.data.sources import load_records
from confide.data.templates import Template, Tokenizer, make_template
from confide.data.tokenize import tokenize_client
from confide.errors import ConfigError, DataError
from confide.model.load import load_tokenizer

DEFAULT_CLINICS = 3


def build_records(config: Config) -> list[ClientRecords]:
    """Reads or generates the data, divides it among the clients, and puts in and leaves out what an audit asks for.

    Raises:
        DataError, ConfigError: see `load_records`, `partition_records` and `flip_coins`; or the federation has fewer
            clients than `federation.min_clients` or `federation.clients_per_round`.
    """
    return list(build_flipped(config).clients)


def build_flipped(config: Config) -> Flipped:
    """The clients' data as it is trained on, and the truth about coins: for scorers of an audit only.

    Raises:
        DataError, ConfigError: see `build_records`.
    """
    clients = _divide(config)
    audit = config.audit
    if not audit.canaries:
        return Flipped(clients=tuple(clients), plan=CoinPlan(seed=config.run.seed, coins=()))
    settings = CanarySettings(
        kinds=audit.canaries,
        records_per_client=audit.records_per_client,
        canaries_per_client=audit.canaries_per_client,
        seed=config.run.seed,
    )
    return flip_coins(clients, settings, reserved_tokens=_reserved_tokens(config))


def build_own_records(config: Config, client: str) -> ClientRecords:
    """Reads the data of one client that is alone with it: where rows name their clients, those that are its own.

    The division into trained and held-out records is that of `build_records`, which goes by each client alone.

    Raises:
        DataError: as `load_records`; or no row is the client's, or only some rows name a client.
    """
    records = _records(config, is_shared_out=False)
    unnamed = sum(record.client is None for record in records)
    if 0 < unnamed < len(records):
        raise DataError(
            f"{unnamed} of {len(records)} rows name no client (data.client_column): name one in all of them, or in none"
        )
    if unnamed:
        records = [replace(record, client=client) for record in records]
    own = [record for record in records if record.client == client]
    if not own:
        raise DataError(
            f"none of the {len(records)} rows is of client {client}: the column data.client_column names others. Give "
            "the rows this name, leave the column out, or set data.client_column to another one"
        )
    return _divided(config, own)[0]


def _reserved_tokens(config: Config) -> tuple[str, ...]:
    """Vocabulary tokens for the canaries that need some; none where there are no such canaries."""
    if "reserved" not in config.audit.canaries:
        return ()
    return find_reserved_tokens(load_tokenizer(config.model.base))


def _divided(config: Config, records: Sequence[Record]) -> list[ClientRecords]:
    data = config.data
    return partition_records(
        records,
        scheme=data.partition,
        seed=config.run.seed,
        num_clients=data.clients,
        dirichlet_alpha=data.dirichlet_alpha,
        shards_per_client=data.shards_per_client,
        size_exponent=data.size_exponent,
        min_rows_per_client=data.min_rows_per_client,
        max_rows_per_client=data.max_rows_per_client,
        held_out=data.held_out,
    )


def _divide(config: Config) -> list[ClientRecords]:
    clients = _divided(config, _records(config))
    for key, wanted in [
        ("federation.min_clients", config.federation.min_clients),
        ("federation.clients_per_round", config.federation.clients_per_round),
    ]:
        if len(clients) + config.audit.canary_clients < wanted:
            raise ConfigError(
                f"{key} is {wanted}, but the data has only {len(clients)} "
                f"client{'s' if len(clients) > 1 else ''}. Lower {key}, or check data.client_column."
            )
    return clients


def build_tokenizer(config: Config) -> Tokenizer:
    """Loads the base model's tokenizer without its weights."""
    tokenizer: Tokenizer = load_tokenizer(config.model.base)
    return tokenizer


def build_template(config: Config, tokenizer: Tokenizer) -> Template:
    """The template that turns records into tokens; reserved tokens that canaries plant stay what they are."""
    if "reserved" not in config.audit.canaries:
        return make_template(config.data.template, tokenizer)
    plan = build_flipped(config).plan
    planted = [coin.secret for coin in plan.coins if coin.kind == "reserved" and coin.secret is not None]
    # Not all reserved tokens: one that stands in the data must keep reading as the text it is there.
    return make_template(config.data.template, let_through(tokenizer, [*planted, *plan.spaces["reserved"]]))


def build_examples(config: Config, clients: Sequence[ClientRecords], template: Template) -> list[TokenizedClient]:
    """Tokenises every client's records.

    Raises:
        DataError: a client has no example left to train on.
    """
    tokenized = [tokenize_client(client, template, config.train.max_tokens) for client in clients]
    for client in tokenized:
        if not client.train:
            raise DataError(
                f"client {client.name} has no training example left: cutting to train.max_tokens = "
                f"{config.train.max_tokens} removed every response. Raise train.max_tokens."
            )
    return tokenized


def _records(config: Config, *, is_shared_out: bool = True) -> list[Record]:
    """All records, with what the partition reads of each where they are to be shared out."""
    data = config.data
    if data.source == "clinics":
        return generate_clinics(
            seed=config.run.seed,
            num_clinics=data.clients if data.partition == "natural" and data.clients else DEFAULT_CLINICS,
            num_letters=data.clinic_letters,
            num_instructions=data.clinic_instructions,
        )
    columns = ColumnNames(
        instruction=data.instruction_column,
        input=data.input_column,
        response=data.response_column,
        messages=data.messages_column,
        text=data.text_column,
        answer=data.answer_column,
        choices=data.choices_column,
        id=data.id_column,
        client=data.client_column,
        label=data.label_column,
    )
    needed = [NEEDED_FIELD[data.partition]] if is_shared_out and data.partition in NEEDED_FIELD else []
    return load_records(data.source, data.path, columns=columns, split=data.split, required=needed)
