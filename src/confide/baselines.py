"""Trains what a federation is compared with: each client alone, and all data pooled.

Both are federations of one client, with the same local training and learning rates, so every difference comes from who
shares with whom. A client alone trains for as many rounds as its updates went into in the federation, so it takes
exactly the local steps that count there; one that never took part has the adapter from before training. The pool trains
in every round, and takes as many steps in it as all clients of a round together (with `local_epochs` that follows by
itself). There is nothing to average, so the server optimiser is plain FedAvg with learning rate 1: the next round goes
on where local training ended. A schedule of the learning rate spans each one's own rounds.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.build import apply_threads, build_examples, build_federation, build_records, build_template
from confide.config.load import dump_toml
from confide.config.schema import Config
from confide.config.sections import FederationSection, PruneSection, SealSection
from confide.data.examples import ClientRecords
from confide.federate import Observer, restore, run, start
from confide.model.adapter_files import read_adapter
from confide.model.lora import AdaptedModel
from confide.names import file_name
from confide.run import RunDirectory
from confide.train.outcome import StepReport

POOLED = "pooled"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One run to compare with.

    Attributes:
        name: "pooled", or "alone-" and the client's name; `file_name` of it is the folder under RUN/baselines.
        client: the one client of this run.
        config: the federation's, for one client.
    """

    name: str
    client: ClientRecords
    config: Config


def plan_baselines(config: Config, clients: Sequence[ClientRecords], num_rounds: Mapping[str, int]) -> list[Baseline]:
    """Gives the baselines of a federation: every client alone that took part, in order, then all data pooled.

    Args:
        config: of the federation.
        clients: all of it.
        num_rounds: by client, how many rounds of the federation hold its update; one that is not there took no part.
    """
    alone = [
        Baseline(name=alone_name(client.name), client=client, config=_solo(config, rounds=num_rounds[client.name]))
        for client in clients
        if num_rounds.get(client.name, 0) > 0
    ]
    pool = ClientRecords(
        name=POOLED,
        train=tuple(record for client in clients for record in client.train),
        held_out=tuple(record for client in clients for record in client.held_out),
    )
    per_round = config.federation.clients_per_round or len(clients)
    pooled = _solo(config, rounds=config.federation.rounds, step_factor=per_round)
    return [*alone, Baseline(name=POOLED, client=pool, config=pooled)]


def alone_name(client: str) -> str:
    """The name of a client's baseline."""
    return f"alone-{client}"


def train_baselines(
    run_folder: Path,
    config: Config,
    model: AdaptedModel,
    *,
    observer: Observer,
    on_step: Callable[[str, StepReport], None] | None = None,
    on_baseline: Callable[[Baseline], None] | None = None,
) -> dict[str, Path]:
    """Trains the baselines that are not there yet, each an ordinary run directory under RUN/baselines.

    Args:
        run_folder: of the federation.
        config: of the federation.
        model: the base model with an adapter, as `build_model` gives it for this configuration; overwritten.
        observer: told of the rounds.
        on_step: called with a client's name after each local step; may raise to stop.
        on_baseline: called before each baseline that has to be trained.

    Returns:
        The folder of the last round's adapter, by the baseline's name; of a client that never took part, that of the
        adapter from before training.
    """
    clients = build_records(config)
    template = build_template(config, model.tokenizer)
    federated = RunDirectory.open(run_folder)
    digests = {client.name: client.digest for client in clients}
    federated.check_data(digests)
    start_adapter = federated.round_folder(0)
    threads = apply_threads(config, kept=federated.threads)
    device, dtype = str(model.base.device), str(model.base.dtype)
    found = {alone_name(client.name): start_adapter for client in clients}
    num_rounds = Counter(member for record in federated.records() for member in record.members)
    for baseline in plan_baselines(config, clients, num_rounds):
        folder = run_folder / "baselines" / file_name(baseline.name)
        examples = build_examples(baseline.config, [baseline.client], template)
        model.write(read_adapter(start_adapter, model.layout, model.base.name))
        federation = build_federation(baseline.config, model, examples, run=folder.name, on_step=on_step)
        if (folder / "run.json").exists():
            directory = RunDirectory.open(folder)
        else:
            directory = RunDirectory.create(
                folder,
                config_toml=dump_toml(baseline.config),
                name=baseline.name,
                seed=config.run.seed,
                notes={
                    "id": folder.name,
                    "baseline_of": config.run.name,
                    "base_digest": model.base.digest,
                    "device": device,
                    "dtype": dtype,
                    "threads": threads,
                    "data_digests": digests,  # of all clients: a baseline is measured on everybody's held-out rows
                },
            )
        with directory.locked():
            if directory.status != "finished":
                directory.check_device(device, dtype)
                if on_baseline is not None:
                    on_baseline(baseline)
                state = restore(federation, directory) if directory.rounds() else start(federation, directory)
                run(federation, directory, state, observer=observer, trackers=())
        found[baseline.name] = directory.final
    return found


def _solo(config: Config, *, rounds: int, step_factor: int = 1) -> Config:
    """The configuration for one client that trains `step_factor` times as many local steps in a round."""
    federation = FederationSection(rounds=rounds, min_clients=1, weights="equal")
    train = config.train.model_copy(update={"local_steps": config.train.local_steps * step_factor})
    evaluate = config.evaluate.model_copy(update={"every_rounds": 0})
    return config.model_copy(
        update={
            "federation": federation,
            "train": train,
            "evaluate": evaluate,
            "prune": PruneSection(),  # one client has nobody to hide from and nothing to send
            "seal": SealSection(scheme="plain"),
        }
    )
