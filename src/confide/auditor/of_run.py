"""Makes a run ready to be audited: its data, coins, adapters and transcript."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from confide.audit.epsilon_bounds import Claim, EpsilonUnit
from confide.audit.results import RunFacts
from confide.auditor.adapters import Adapters
from confide.auditor.audited import Audited
from confide.auditor.canary_clients import find_canary_clients
from confide.auditor.case import NEVER_REACHED, PASSIVE, Case, Secrets, make_case
from confide.auditor.participation import find_participation
from confide.auditor.passive import passive_coins
from confide.auditor.reach import records_read
from confide.auditor.reader import Reader
from confide.auditor.request import AuditRequest, check_only_audit_keys, choose_attackers
from confide.auditor.views import ViewMaker
from confide.build import apply_threads, build_examples, build_flipped, build_model, build_template, local_settings
from confide.canaries.canary_clients import without_data
from confide.canaries.plan import CoinPlan
from confide.config.load import load_resolved
from confide.config.schema import Config
from confide.data.examples import ClientRecords
from confide.errors import RunDirectoryError
from confide.model.lora import AdaptedModel
from confide.plural import plural
from confide.records import RoundRecord
from confide.run import RunDirectory
from confide.transcript.reader import Transcript

NOT_RECORDED = (
    "The run was not recorded (audit.record is false), so nothing is said about single updates or about what a sealed "
    "server holds."
)
TRANSCRIPT_GONE = (
    "The run was recorded, but its transcript is gone, so nothing is said about single updates or about what a sealed "
    "server holds."
)

Progress = Callable[[str], None]


def open_run(run: Path, request: AuditRequest, *, model: AdaptedModel | None = None, progress: Progress) -> Audited:
    """Reads everything that an audit of a run needs.

    Args:
        run: the run directory.
        request: what to do.
        model: as `build_model` makes it for the run's configuration; None to do that here. Overwritten.
        progress: told what is being done.

    Raises:
        RunDirectoryError: `run` is no run directory, has no complete round after the start or not its last one, or its
            data or base model are not what it was trained with; or attacks on updates are asked for and it was not
            recorded.
        ConfigError: the request changes what cannot be changed, or names a view or an attack that there is not.
        UsageError: an attacker is named that there is not.
    """
    directory, config = RunDirectory.open(run), config_of_run(run, request)
    numbers = directory.rounds()
    if not any(numbers):
        raise RunDirectoryError(f"the run {run} has no complete round to audit. Finish it with `confide resume {run}`.")
    directory.check_end()
    apply_threads(config)
    progress("reading the data")
    flipped = build_flipped(config)
    directory.check_data({client.name: client.digest for client in flipped.clients})
    names = tuple(sorted(client.name for client in flipped.clients))
    attackers = choose_attackers(names, request.attackers)
    progress(f"loading {config.model.base}")
    model = build_model(config) if model is None else model
    directory.check_base(model.base.name, model.base.digest)
    template = build_template(config, model.tokenizer)
    examples = build_examples(config, flipped.clients, template)
    adapters = Adapters(
        model,
        {number: directory.round_folder(number) for number in numbers},
        rounds_per_attack=config.audit.rounds_per_attack,
    )
    missing = sorted(set(range(1, adapters.last)) - set(numbers))
    records = _records(directory)
    members = {record.round_number: frozenset(record.members) for record in records}
    # A round that is missing may have had anybody's update in its sum.
    num_rounds = Counter(name for of_round in [*members.values(), *[names] * len(missing)] for name in of_round)
    read = records_read(
        examples,
        num_rounds,
        local_settings(config),
        seed=config.run.seed,
        is_sampled=config.privacy.hides_rows,
    )
    transcript, warnings = _transcript(config, directory, model, request)
    taking_part = [client for client in flipped.clients if num_rounds[client.name]]
    reader = Reader(model, template, config.train.max_tokens)
    case = _case(config, taking_part, flipped.plan, reader, read)
    warnings += [] if case.truth.is_randomised else [PASSIVE]
    warnings += _missing_rounds(missing)
    warnings += _never_reached(case, [name for name in names if not num_rounds[name]])
    spent = _spent(records, directory.info, "client_epsilon" if config.privacy.unit == "both" else "epsilon")
    canaries = find_canary_clients(config, model.layout, members, spent=spent)
    in_sums = [*examples, *[without_data(name) for name in (canaries.everyone if canaries else ())]]
    views = ViewMaker(
        model.layout,
        adapters,
        clients=in_sums,
        members=members,
        transcript=transcript,
        hands_over=config.seal.scheme != "plain" and config.seal.release == "server",
        keeps_others=canaries is not None,
    )
    warnings += _holes(views.holes())
    return Audited(
        config=config,
        model=model,
        adapters=adapters,
        case=case,
        views=views,
        attackers=attackers,
        participation=None
        if missing
        else find_participation(flipped.clients, records, reader, most_per_client=config.audit.records_per_attack),
        is_recorded=transcript is not None,
        is_claimed=False,
        facts=_facts(config, directory, model, records, num_rounds=adapters.last, num_clients=len(in_sums)),
        folder=run,
        command=("confide", "audit", str(run), *request.words),
        warnings=tuple(warnings),
        canary_clients=canaries,
    )


def config_of_run(run: Path, request: AuditRequest) -> Config:
    """The configuration that an audit of a run goes by: the run's, with what the request changes.

    Raises:
        RunDirectoryError: `run` is no run directory.
        ConfigError: the request changes what cannot be changed, or names a view or an attack that there is not.
    """
    path = RunDirectory.open(run).config_path
    config = load_resolved(path, request.overrides)
    check_only_audit_keys(load_resolved(path), config)
    return config


def _records(directory: RunDirectory) -> Sequence[RoundRecord]:
    try:
        return directory.records()
    except OSError as error:
        raise RunDirectoryError(f"{directory.path}: the record of a round cannot be read: {error}") from error


def _case(
    config: Config, clients: Sequence[ClientRecords], plan: CoinPlan, reader: Reader, read: Mapping[str, frozenset[str]]
) -> Case:
    """Asks about the records of clients that took part: of another nothing was trained on, coin or not."""
    most = config.audit.records_per_attack
    if not plan.coins:
        passive = passive_coins(clients, most, read=read)
        case = make_case(passive.coins, reader, is_randomised=False, seed=plan.seed)
        return case.with_count("near-duplicates left out", passive.num_duplicates)
    case = make_case(
        [coin for coin in plan.coins if coin.client in {client.name for client in clients}],
        reader,
        is_randomised=True,
        seed=plan.seed,
        held_out=[record for client in clients for record in client.held_out[:most]],
        secrets=Secrets(
            spaces=plan.spaces,
            num_alternatives=config.audit.alternatives,
            full_ranking=config.audit.full_ranking,
        ),
        read=read,
    )
    case = case.with_count("near-duplicates kept out of the coins", sum(plan.pool_duplicates.values()))
    return case.with_count("near-duplicates removed from held-out records", sum(plan.held_out_duplicates.values()))


def _transcript(
    config: Config, directory: RunDirectory, model: AdaptedModel, request: AuditRequest
) -> tuple[Transcript | None, list[str]]:
    """The transcript, or why there is none; that is an error only where attacks on updates are asked for."""
    folder = directory.path / "transcript"
    if folder.is_dir() or "updates" in request.attacks:
        return Transcript(folder, model.layout), []
    return None, [TRANSCRIPT_GONE if config.audit.record else NOT_RECORDED]


def _missing_rounds(missing: Sequence[int]) -> list[str]:
    if not missing:
        return []
    return [
        f"The run has no folder of round {', '.join(map(str, missing))}: what happened in between is seen as one "
        "round, and no update of a round whose start is missing is looked at."
    ]


def _holes(holes: Sequence[str]) -> list[str]:
    if not holes:
        return []
    return [
        f"The transcript is not whole. Missing: {'; '.join(holes)}. Attacks on what is missing ask about fewer "
        "records, or do not run."
    ]


def _never_reached(case: Case, absent: Sequence[str]) -> list[str]:
    count = sum(number for name, number in case.counts.items() if name.endswith(NEVER_REACHED))
    warnings = []
    if absent:
        warnings.append(
            f"No update of {', '.join(absent)} is in any round's sum, so nothing of theirs was ever trained on: "
            "nothing is asked about them."
        )
    if count:
        warnings.append(
            f"Training came to only a part of each client's rows (train.local_steps, federation.rounds): left out are "
            f"{plural(count, 'record')} meant for training that it never reached."
        )
    return warnings


def _facts(
    config: Config,
    directory: RunDirectory,
    model: AdaptedModel,
    records: Sequence[RoundRecord],
    *,
    num_rounds: int,
    num_clients: int,
) -> RunFacts:
    protection, command = (directory.info.get(name) for name in ("protection", "command"))
    return RunFacts(
        name=config.run.name,
        base_model=model.base.name,
        num_rounds=num_rounds,
        num_clients=num_clients,
        scheme=config.seal.scheme,
        protection=[str(line) for line in protection] if isinstance(protection, list) else [],
        guarantee=_guarantee(records, directory.info),
        claim=_claim(config, records, directory.info),
        client_claim=_client_claim(config, records, directory.info),
        seed=config.run.seed,
        num_parameters=model.layout.num_values,
        command=command if isinstance(command, str) else "",
    )


def _guarantee(records: Sequence[RoundRecord], info: Mapping[str, object]) -> str:
    """What the run's own accounting says: the plan, and what was spent when it ended, failed rounds included."""
    spent, of_client = _spent(records, info, "epsilon"), _spent(records, info, "client_epsilon")
    if spent is None:
        return "none"
    both = "" if of_client is None else f" for a row, {of_client:.4g} for a client"
    return f"{records[-1].privacy}; spent after round {records[-1].round_number}: epsilon {spent:.4g}{both}"


def _claim(config: Config, records: Sequence[RoundRecord], info: Mapping[str, object]) -> Claim | None:
    """The same in numbers: what was spent, never what was aimed at."""
    spent = _spent(records, info, "epsilon")
    if spent is None:
        return None
    return _as_claim(config, "example" if config.privacy.hides_rows else "client", spent)


def _client_claim(config: Config, records: Sequence[RoundRecord], info: Mapping[str, object]) -> Claim | None:
    """With both units the one of a client."""
    spent = _spent(records, info, "client_epsilon")
    return None if spent is None else _as_claim(config, "client", spent)


def _as_claim(config: Config, unit: EpsilonUnit, spent: float) -> Claim:
    return Claim(unit=unit, epsilon=spent, delta=config.privacy.delta, seeded_noise=config.privacy.seeded_noise)


def _spent(records: Sequence[RoundRecord], info: Mapping[str, object], what: str) -> float | None:
    last = records[-1] if records else None
    in_record: float | None = getattr(last, what, None)
    at_end = info.get(what)
    if in_record is None:
        return None
    return max(in_record, at_end) if isinstance(at_end, float) else in_record
