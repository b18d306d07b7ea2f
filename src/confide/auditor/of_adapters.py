"""Makes anybody's adapters ready to be audited: a folder with one per round, a base model, and two files of records."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from confide.audit.results import RunFacts
from confide.auditor.adapter_folders import AdapterRounds, AdapterShape, common_shape, find_rounds, read_shape
from confide.auditor.adapters import Adapters
from confide.auditor.audited import Audited
from confide.auditor.case import CUT_OFF, Case, make_case
from confide.auditor.evidence import check_comparable
from confide.auditor.of_run import Progress
from confide.auditor.passive import NOBODY, claimed_coins
from confide.auditor.reader import Reader
from confide.auditor.request import Attackers, AuditRequest
from confide.auditor.views import ViewMaker
from confide.build import apply_threads, build_model, build_template
from confide.canaries.forms import whole_text
from confide.config.load import parse_config
from confide.config.schema import Config
from confide.data.examples import Record
from confide.data.rows import ColumnNames
from confide.data.sources import load_records
from confide.errors import DataError, ModelError, UsageError
from confide.model.lora import AdaptedModel
from confide.model.registry import BUILTIN_MODELS
from confide.plural import plural

VIEWS = ("final", "client")
ATTACKS = ("membership", "extraction")
_NO_FILES = ("hub", "sotu")
_RECORDS_PER_ATTACK = 64
CLAIMED = (
    "No coins decided what was trained on, as far as is known, so this audit is passive: members and others may differ "
    "in more than training, and what else would be a leak is called unexplained. If fair coins did "
    "decide, say so with --randomised."
)


@dataclass(frozen=True, kw_only=True)
class AdaptersToAudit:
    """What the user gives.

    Attributes:
        folder: with PEFT adapters, one per round in a folder whose name has its number, or a single adapter.
        members: a file of records that were trained on, in any of the forms that training data may have.
        non_members: a file of records that were not.
        out: the folder for results.
        base: the base model; "" for the one that the adapters name.
        template: how records read as text, as `data.template`.
        is_randomised: whether fair coins decided which records were trained on.
    """

    folder: Path
    members: Path
    non_members: Path
    out: Path
    base: str = ""
    template: str = "auto"
    is_randomised: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The same as options of `confide audit`."""
        named = {
            "--adapters": str(self.folder),
            "--base": self.base,
            "--members": str(self.members),
            "--non-members": str(self.non_members),
            "--template": self.template,
            "--out": str(self.out),
        }
        options = [word for option, value in named.items() if value for word in (option, value)]
        return (*options, *["--randomised"] * self.is_randomised)


def open_adapters(given: AdaptersToAudit, request: AuditRequest, *, progress: Progress) -> Audited:
    """Reads everything that an audit of adapters needs.

    Args:
        given: what to audit.
        request: what to do. Its settings may set any key of the configuration that says how records are read
            (`data.*_column`, `train.max_tokens`), the model is loaded (`model.dtype`) or attacks are made (`audit.*`).
        progress: told what is being done.

    Raises:
        ModelError: the adapters cannot be read, are not plain LoRA, or do not fit each other or the base model.
        DataError: a file of records is missing or malformed.
        UsageError: a view, an attack, an attacker or shadow models are asked for that adapters alone do not give.
        ConfigError: a setting is wrong.
    """
    progress("reading the adapters")
    rounds = find_rounds(given.folder)
    config = config_of_adapters(given, request)
    if config.audit.shadows:
        raise UsageError(
            "--shadows (audit.shadows) goes with a run: how adapters alone were trained (optimiser, learning rate, "
            "steps) is not known, so no model can be trained as they were."
        )
    apply_threads(config)
    progress("reading the records")
    members, non_members = (
        _records(config, path, option)
        for path, option in ((given.members, "--members"), (given.non_members, "--non-members"))
    )
    _check_apart(members, non_members)
    claimed = claimed_coins(members, non_members)
    progress(f"loading {config.model.base}")
    model = _model(given, config)
    adapters = Adapters(model, rounds.folders, rounds_per_attack=config.audit.rounds_per_attack)
    reader = Reader(model, build_template(config, model.tokenizer), config.train.max_tokens)
    case = make_case(claimed.coins, reader, is_randomised=given.is_randomised, seed=config.run.seed)
    case = case.with_count("near-duplicates left out", claimed.num_duplicates).with_names(claimed.names)
    check_comparable(case, advice=_advice(case, config))
    of_another_base = _of_another_base(rounds, model)
    return Audited(
        config=config,
        model=model,
        adapters=adapters,
        case=case,
        views=ViewMaker(model.layout, adapters),
        attackers=Attackers(alone=(), together=()),
        participation=None,
        is_recorded=False,
        is_claimed=True,
        facts=RunFacts(
            name=config.run.name,
            base_model=model.base.name,
            num_rounds=len(adapters.rounds),
            num_clients=len({coin.client for coin in claimed.coins} - {NOBODY}) or None,
            seed=config.run.seed,
            num_parameters=model.layout.num_values,
        ),
        folder=given.out,
        command=("confide", "audit", *given.words, *request.words),
        warnings=(*([] if given.is_randomised else [CLAIMED]), *of_another_base, *_folders_left_out(given, rounds)),
        doubts=of_another_base,
    )


def config_of_adapters(given: AdaptersToAudit, request: AuditRequest) -> Config:
    """The configuration that an audit of adapters goes by: as of a run that would have made them.

    Raises:
        ModelError: the adapters cannot be read, are not plain LoRA, or do not fit each other.
        UsageError: a view, an attack or an attacker is asked for that adapters alone do not give.
        ConfigError: a setting is wrong.
    """
    _check_request(request)
    rounds = find_rounds(given.folder)
    return _config(given, request, rounds, common_shape(rounds.folders))


def _check_request(request: AuditRequest) -> None:
    if request.attackers:
        raise UsageError("--attacker goes with a run: who the clients were is not known of adapters alone.")
    for what, asked, there_is in (("view", request.views, VIEWS), ("attack", request.attacks, ATTACKS)):
        unknown = [name for name in asked if name not in there_is]
        if unknown:
            raise UsageError(
                f"--{what} is {unknown[0]!r}, expected one of: {', '.join(there_is)}. Adapters alone give no more."
            )


def _config(given: AdaptersToAudit, request: AuditRequest, rounds: AdapterRounds, shape: AdapterShape) -> Config:
    """The configuration of a run that would have made these adapters, as far as an audit reads it."""
    base = given.base or shape.base
    if not base:
        raise ModelError(f"the adapters in {given.folder} do not name their base model. Say which one with --base.")
    name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in given.folder.resolve().name)
    return parse_config(
        {
            "run": {"name": name.strip("-")[:100] or "adapters"},
            "model": {"base": base},
            "lora": {"rank": shape.lora_rank, "alpha": shape.lora_alpha, "targets": list(shape.layers)},
            "data": {"path": str(given.members), "template": given.template},
            "federation": {"rounds": max(1, len(rounds.folders))},
            "audit": {
                "views": list(VIEWS if len(rounds.folders) > 1 else VIEWS[:1]),
                "attacks": list(ATTACKS),
                "records_per_attack": _RECORDS_PER_ATTACK,
            },
        },
        request.overrides,
        where="the audit of adapters",
    )


def _records(config: Config, path: Path, option: str) -> list[Record]:
    data = config.data
    if data.source not in _NO_FILES and not path.exists():
        raise DataError(
            f"{option}: {path} does not exist. Give a file of records; a relative path counts from the folder you run "
            "confide in."
        )
    columns = ColumnNames(**{field.name: getattr(data, f"{field.name}_column") for field in fields(ColumnNames)})
    return load_records(data.source, str(path), columns=columns, split=data.split)


def _model(given: AdaptersToAudit, config: Config) -> AdaptedModel:
    try:
        return build_model(config)
    except ModelError as error:
        if "lora.targets" not in str(error):
            raise
        raise ModelError(
            f"the adapters in {given.folder} are of another base model than {config.model.base}: they adapt layers "
            "that it does not have. Give the right one with --base."
        ) from error


def _advice(case: Case, config: Config) -> str:
    """What to do where there are too few records."""
    if any(count for name, count in case.counts.items() if name.endswith(CUT_OFF)):
        return (
            f"Records are read up to train.max_tokens, {config.train.max_tokens} tokens, and those that begin with a "
            "longer prompt have nothing left: if training read more, say so with --set train.max_tokens=N."
        )
    return "Give more records with --members and --non-members; what repeats a member is left out."


def _check_apart(members: Sequence[Record], non_members: Sequence[Record]) -> None:
    """Refuses others that are all among the members: most likely one file was given twice."""
    trained, others = ({whole_text(record) for record in records} for records in (members, non_members))
    if others and others <= trained:
        what = (
            f"--members and --non-members hold the same {plural(len(trained), 'record')}"
            if others == trained
            else f"what --non-members holds, {plural(len(others), 'record')}, is all in --members too"
        )
        raise DataError(
            f"{what}, so there is nothing to compare. Give with --non-members records of the same kind that were not "
            "trained on."
        )


def _of_another_base(rounds: AdapterRounds, model: AdaptedModel) -> tuple[str, ...]:
    """The doubt that adapters are of another model than they are audited on, by what they call it; none if it agrees.

    Their weights say nothing of it: an adapter fits every model of the same layers.
    """
    known = {model_called(name) for name in (model.base.name, model.base.reference)}
    named = sorted({read_shape(folder).base for folder in rounds.folders.values()} - {""})
    others = [name for name in named if model_called(name) not in known]
    if not others:
        return ()
    return (
        f"The adapters name {others[0]} as their base model, and they are audited on {model.base.name}: if that is "
        "another model, the numbers mean nothing. If it is the same, give with --base a folder that is called "
        f"{others[0].rstrip('/').rpartition('/')[2]}, or correct base_model_name_or_path in each adapter_config.json.",
    )


def _folders_left_out(given: AdaptersToAudit, rounds: AdapterRounds) -> list[str]:
    found = []
    if rounds.missing:
        found.append(
            f"There is no adapter of round {', '.join(map(str, rounds.missing))}: what happened in between is seen as "
            "one round."
        )
    if rounds.ignored:
        found.append(f"Not looked at: {', '.join(path.name for path in rounds.ignored)} in {given.folder}.")
    return found


def model_called(name: str) -> str:
    """What a model is called wherever it lies: the last part of its path or hub id, whatever its case.

    Of a built-in model that is its hub id's, and in a hub's own cache the folder's that holds all its versions.
    """
    parts = name.rstrip("/").split("/")
    cached = [part.rpartition("--")[2] for part in parts[:-1] if part.startswith("models--")]
    last = cached[-1] if cached else parts[-1]
    built_in = BUILTIN_MODELS.get(last.lower())
    return (built_in.hub_id.rpartition("/")[2] if built_in else last).lower()
