"""One run at one member: the model, the client, and its state on disk."""

import json
from collections.abc import Callable
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
from confide.train.local import StepReport

_TERMS, _STATE, _GLOBAL, _OWN = "terms", "state", "global.safetensors", "own.safetensors"
_ACCEPTED, _LEDGER = "accepted", "releases.jsonl"


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

    def finish(self) -> FinishReply:
        """Keeps nothing any more but the adapters, the configuration, and the record of what was released."""
        number = self.client.state.shared.round_number
        self.client.forget_pending()
        self._directory.set_status("finished", **self.client.spent)
        for done in self._directory.rounds():
            self._directory.drop_state(done)
        return FinishReply(run=self.run, round_number=number, client=self.client.name)


def take_part(
    folder: Path,
    *,
    terms: Terms,
    config: Config,
    identity: Identity,
    check_base: Callable[[str], None],
    on_step: Callable[[str, StepReport], None] | None = None,
) -> NodeRun:
    """Starts a run at this member, or takes it up again where it stands on disk.

    A run is accepted once: its id is noted beside the folders of all runs, so that a folder that is lost, and with it
    what was released and what that cost, is noticed.

    Args:
        folder: of the run.
        terms: as offered.
        config: as offered, with what the member sets for itself.
        identity: the member's.
        check_base: raises unless the base model's digest is one that the member accepts.
        on_step: see `Client`.

    Raises:
        RunDirectoryError: what was kept of the run is lost or damaged, or the run is over.
        ConfideError: the data or the model cannot be loaded, are not what they were, or are not accepted.
    """
    journal = folder.parent / _ACCEPTED
    was_accepted = terms.run in (journal.read_text().split() if journal.exists() else [])
    if was_accepted and not (folder / _TERMS).is_file():
        raise RunDirectoryError(
            f"{folder} is lost or damaged, and with it what this member has released in the run: it takes no further "
            "part in it. Start a new run"
        )
    make = open_node_run if was_accepted else start_node_run
    return make(folder, terms=terms, config=config, identity=identity, check_base=check_base, on_step=on_step)


def start_node_run(
    folder: Path,
    *,
    terms: Terms,
    config: Config,
    identity: Identity,
    check_base: Callable[[str], None],
    on_step: Callable[[str, StepReport], None] | None = None,
) -> NodeRun:
    """Makes the folder of a run that was just accepted.

    Args:
        folder: of the run; made here.
        terms: as offered.
        config: as offered, with what the member sets for itself.
        identity: the member's.
        check_base: raises unless the base model's digest is one that the member accepts.
        on_step: see `Client`.

    Raises:
        ConfideError: the data or the model cannot be loaded, or the base model is not accepted; no folder is left.
    """
    if folder.exists():
        RunDirectory(folder).discard()  # killed before it was accepted: nothing has left
    directory = RunDirectory.create(
        folder, config_toml=dump_toml(config), name=config.run.name, seed=config.run.seed, notes={"id": terms.run}
    )
    try:
        made = _make(directory, terms, config, identity, check_base, on_step)
        ledger = directory.path / "clients" / f"{terms.members.point_of(identity.public.name):04d}" / _LEDGER
        ledger.touch(mode=0o600)  # from now on one that is not there is lost
        terms.save(folder / _TERMS)
        journal = folder.parent / _ACCEPTED
        before = journal.read_text() if journal.exists() else ""
        write_atomic(journal, f"{before}{terms.run}\n", mode=0o600)  # last: now it is accepted
    except BaseException:
        directory.discard()
        raise
    return made


def open_node_run(
    folder: Path,
    *,
    terms: Terms,
    config: Config,
    identity: Identity,
    check_base: Callable[[str], None],
    on_step: Callable[[str, StepReport], None] | None = None,
) -> NodeRun:
    """Takes a run up again where it stands on disk; see `start_node_run`.

    Raises:
        RunDirectoryError: the folder is of another run, damaged, or lost what a guarantee has cost; or the run is over.
        ConfideError: as `start_node_run`; or data, model or machine are not what they were.
    """
    directory = RunDirectory.open(folder)
    if Terms.load(folder / _TERMS).run != terms.run or directory.run_id != terms.run:
        raise RunDirectoryError(f"{folder} is of another run: move it away")
    if directory.status == "finished":
        raise RunDirectoryError(f"the run in {folder} is over: start a new one")
    point = terms.members.point_of(identity.public.name)
    if not (directory.path / "clients" / f"{point:04d}" / _LEDGER).is_file():
        raise RunDirectoryError(
            f"{folder} lost its {_LEDGER}: nobody knows any more what this member released, so it releases nothing. "
            "Start a new run"
        )
    directory.clean()
    made = _make(directory, terms, config, identity, check_base, on_step)
    if directory.rounds():
        made.client.state = _load(directory, made)
        made.client.check_releases(made.client.state.num_sums)
    return made


def _make(
    directory: RunDirectory,
    terms: Terms,
    config: Config,
    identity: Identity,
    check_base: Callable[[str], None],
    on_step: Callable[[str, StepReport], None] | None,
) -> NodeRun:
    name = identity.public.name
    threads = apply_threads(config, kept=directory.threads)
    records = build_own_records(config, name)
    directory.check_data({name: records.digest})
    model = build_model(config)
    base_digest = whole_weights_digest(model.base.module)
    check_base(base_digest)
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
        on_step=on_step,
    )
    client = maker.make(identity, examples, keep=partial(_keep, directory, model, name))
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
        (own / _GLOBAL).write_bytes(state.shared.to_bytes())
        (own / _OWN).write_bytes(pack_own(name, state))
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
