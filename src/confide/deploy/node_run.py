"""One run at one member: the model, the client, and its state on disk."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from confide.build.client import ClientMaker
from confide.build.data import build_examples, build_own_records, build_template
from confide.build.model import apply_threads, build_model
from confide.config.load import dump_toml
from confide.config.schema import Config
from confide.deploy.run_config import read_offer
from confide.deploy.terms import Terms
from confide.errors import LayoutMismatchError, MessageError, RunDirectoryError
from confide.files import write_atomic
from confide.global_state import GlobalState
from confide.membership.identity import Identity
from confide.messages import FinishReply
from confide.model.load import whole_weights_digest
from confide.model.lora import AdaptedModel
from confide.parties.client import Client
from confide.parties.state import ClientState, pack_own, unpack_own
from confide.run import RunDirectory
from confide.train.outcome import StepReport

_TERMS, _STATE, _GLOBAL, _OWN = "terms", "state", "global.safetensors", "own.safetensors"
_ACCEPTED, _LEDGER = "accepted", "releases.jsonl"
_IF_ALIKE = " (As if all members weighed alike: none knows what the others weigh. Where they do not, it is worse.)"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Participation:
    """What a member takes part in, and as whom.

    Attributes:
        terms: as offered.
        config: as offered, with what the member sets for itself.
        identity: the member's.
        check_base: raises unless the base model's digest is one that the member accepts.
        on_step: see `Client`.
    """

    terms: Terms
    config: Config
    identity: Identity
    check_base: Callable[[str], None]
    on_step: Callable[[str, StepReport], None] | None = None

    @property
    def point(self) -> int:
        """The member's number in the roster."""
        return self.terms.members.point_of(self.identity.public.name)


class NodeRun:
    """A run that a member takes part in.

    Attributes:
        run: the run's id.
        model: the base model with the adapter.
        client: answers the server.
    """

    def __init__(self, directory: RunDirectory, *, run: str, model: AdaptedModel, client: Client, base: str) -> None:
        self.run = run
        self.model = model
        self.client = client
        self._base = base
        self._directory = directory

    def adapter_json(self) -> str:
        """What adapter_config.json says of the run's adapters, with the base model as it was offered: where this member
        keeps its copy is its own matter.
        """
        return json.dumps({**json.loads(self.model.describe()), "base_model_name_or_path": self._base}, sort_keys=True)

    def finish(self, last_round: int) -> FinishReply:
        """Keeps nothing any more but the adapters, the configuration, and the record of what was released.

        Raises:
            MessageError: the run is said to be over after a later round than the one that this member stands after.
        """
        number = self.client.state.shared.round_number
        if number < last_round:
            raise MessageError(
                f"{self.client.name} stands after round {number}, and the run is said to be over after round "
                f"{last_round}: nothing is done"
            )
        self.client.forget_pending()
        self._directory.set_status("finished", **self.client.spent)
        for done in self._directory.rounds():
            self._directory.drop_state(done)
        return FinishReply(run=self.run, round_number=number, client=self.client.name)


def num_accepted(folder: Path) -> int:
    """How many runs a member ever accepted: those that were noted, or those that have a folder, if these are more."""
    return max(len(accepted_runs(folder)), len(list(folder.glob(f"*/{_TERMS}"))))


def accepted_runs(folder: Path) -> list[str]:
    """Ids of the runs that a member ever accepted, as noted beside their folders."""
    journal = folder / _ACCEPTED
    return journal.read_text().split() if journal.exists() else []


def take_part(folder: Path, part: Participation) -> NodeRun:
    """Starts a run at this member, or takes it up again where it stands on disk.

    A run is accepted once: its id is noted beside the folders of all runs, so that a folder that is lost, and with it
    what was released and what that cost, is noticed.

    Args:
        folder: of the run.
        part: what the member takes part in, and as whom.

    Raises:
        RunDirectoryError: what was kept of the run is lost or damaged, or the run is over.
        ConfideError: the data or the model cannot be loaded, are not what they were, or are not accepted.
    """
    was_accepted = part.terms.run in accepted_runs(folder.parent)
    if was_accepted and not (folder / _TERMS).is_file():
        raise RunDirectoryError(
            f"{folder} is lost or damaged, and with it what this member has released in the run: it takes no further "
            "part in it. Start a new run"
        )
    return open_node_run(folder, part) if was_accepted else start_node_run(folder, part)


def start_node_run(folder: Path, part: Participation) -> NodeRun:
    """Makes the folder of a run that was just accepted.

    Args:
        folder: of the run; made here.
        part: what the member takes part in, and as whom.

    Raises:
        ConfideError: the data or the model cannot be loaded, or the base model is not accepted; no folder is left.
    """
    config = part.config
    if folder.exists():
        _discard_unaccepted(folder)
    directory = RunDirectory.create(
        folder, config_toml=dump_toml(config), name=config.run.name, seed=config.run.seed, notes={"id": part.terms.run}
    )
    try:
        made = _make(directory, part)
        ledger = directory.path / "clients" / f"{part.point:04d}" / _LEDGER
        ledger.touch(mode=0o600)  # from now on one that is not there is lost
        part.terms.save(folder / _TERMS)
        accepted = [*accepted_runs(folder.parent), part.terms.run]
        write_atomic(folder.parent / _ACCEPTED, "\n".join([*accepted, ""]), mode=0o600)  # last: now it is accepted
    except BaseException:
        directory.discard()
        raise
    return made


def _discard_unaccepted(folder: Path) -> None:
    """Removes the folder of a run that this member was killed in before it had accepted it: nothing has left.

    Raises:
        RunDirectoryError: something has; so the list of accepted runs was lost.
    """
    directory = RunDirectory(folder)
    if directory.rounds() or any(path.stat().st_size for path in folder.glob("clients/*/*") if path.is_file()):
        raise RunDirectoryError(
            f"{folder} was accepted once, and {folder.parent / _ACCEPTED} does not say so: it is lost or damaged, and "
            "with it which runs this member takes part in. It takes no further part in this one. Start a new run"
        )
    directory.discard()


def open_node_run(folder: Path, part: Participation) -> NodeRun:
    """Takes a run up again where it stands on disk; see `start_node_run`.

    Raises:
        RunDirectoryError: the folder is of another run, damaged, or lost what a guarantee has cost; or the run is over.
        ConfideError: as `start_node_run`; or data, model or machine are not what they were.
    """
    directory = RunDirectory.open(folder)
    run = part.terms.run
    if Terms.load(folder / _TERMS).run != run or directory.run_id != run:
        raise RunDirectoryError(f"{folder} is of another run: move it away")
    if directory.status == "finished":
        raise RunDirectoryError(f"the run in {folder} is over: start a new one")
    if not (directory.path / "clients" / f"{part.point:04d}" / _LEDGER).is_file():
        raise RunDirectoryError(
            f"{folder} lost its {_LEDGER}: nobody knows any more what this member released, so it releases nothing. "
            "Start a new run"
        )
    directory.clean()
    directory.mend_final()
    made = _make(directory, part)
    if directory.rounds():
        made.client.state = _load(directory, made)
        made.client.check_releases(made.client.state.num_sums)
    return made


def _make(directory: RunDirectory, part: Participation) -> NodeRun:
    terms, config, name = part.terms, part.config, part.identity.public.name
    threads = apply_threads(config, kept=directory.threads)
    records = build_own_records(config, name)
    directory.check_data({name: records.digest})
    model = build_model(config)
    base_digest = whole_weights_digest(model.base.module)
    part.check_base(base_digest)
    directory.check_base(model.base.name, model.base.digest)
    device, dtype = str(model.base.device), str(model.base.dtype)
    directory.check_device(device, dtype)
    (examples,) = build_examples(config, [records], build_template(config, model.tokenizer))
    maker = ClientMaker(
        config,
        model,
        terms.members,
        dict.fromkeys(terms.members.names, len(examples.train)),
        run=terms.run,
        private=directory.path / "clients",
        on_step=part.on_step,
    )
    for warning in maker.privacy.warnings:
        _logger.warning("%s%s", warning, _IF_ALIKE)
    client = maker.make(part.identity, examples, keep=partial(_keep, directory, model, name))
    directory.set_status(
        "running",
        client=name,
        base=model.base.name,
        base_digest=model.base.digest,
        whole_base_digest=base_digest,
        layout_digest=model.layout.digest,
        device=device,
        dtype=dtype,
        threads=threads,
        data_digests={name: records.digest},
        guarantee=maker.privacy.guarantee,
        warnings=[f"{warning}{_IF_ALIKE}" for warning in maker.privacy.warnings],
    )
    offered = read_offer(terms.config).model.base
    return NodeRun(directory, run=terms.run, model=model, client=client, base=offered)


def _keep(directory: RunDirectory, model: AdaptedModel, name: str, state: ClientState) -> None:
    """Writes the state after a round before the client goes on from it; the round before is then not needed."""
    number = state.shared.round_number
    with directory.new_round(number) as folder:
        model.save(folder, state.shared.adapter)
        own = folder / _STATE
        own.mkdir(mode=0o700)
        write_atomic(own / _GLOBAL, state.shared.to_bytes(), mode=0o600)
        write_atomic(own / _OWN, pack_own(name, state), mode=0o600)
    directory.publish(number)
    for earlier in directory.rounds():
        if earlier < number:
            directory.drop_state(earlier)


def _load(directory: RunDirectory, made: NodeRun) -> ClientState:
    folder = directory.final / _STATE
    try:
        shared = GlobalState.from_bytes((folder / _GLOBAL).read_bytes(), made.model.layout)
        return unpack_own((folder / _OWN).read_bytes(), made.client.name, shared)
    except (OSError, MessageError, LayoutMismatchError) as error:
        raise RunDirectoryError(f"{folder} cannot be resumed from: {error}") from error
