"""The members' side of Confide in the deployment benchmark: real clients, real files, no model.

    python -m confide.bench.deployment_node FOLDER SOCKETS

FOLDER holds work.json and members/NAME/identity.key; each member is a process of its own, made by fork so that all
share what is imported, and answers at SOCKETS/NAME as a node's worker does. Training returns a drawn update.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors.numpy import save

from confide.agreed import agree, opening_threshold
from confide.bench.deployment_arrays import draw_update, make_layout, make_start
from confide.bench.deployment_work import IDENTITY, MEMBERS, WORK_FILE, DeploymentWork
from confide.build.client import client_rules
from confide.build.privacy import build_releases
from confide.build.sealing import (
    build_kept_store,
    build_ledger,
    build_pending_store,
    build_sealing,
    build_tried_sums,
)
from confide.data.examples import TokenizedExample
from confide.deploy.relay import serve
from confide.deploy.run_config import read_offer
from confide.deploy.terms import Terms
from confide.errors import MessageError
from confide.global_state import GlobalState
from confide.membership.identity import Identity
from confide.membership.statements import presence_statement
from confide.messages import FinishReply, FinishRequest, OfferReply, OfferRequest, decode, pack_parts
from confide.parties.client import Client
from confide.parties.key_holder import KeyHolder
from confide.parties.state import ClientState, pack_own
from confide.privacy.plan import NoPrivacy
from confide.run import RunDirectory
from confide.train.outcome import LocalMetrics, LocalResult, StepReport
from confide.update import Layout, Vector

_EXAMPLES = (TokenizedExample(record_id="none", input_ids=np.zeros(2, np.int64), loss_mask=np.array([False, True])),)


class DrawingTrainer:
    """Stands for training: returns the start with a drawn update added.

    Args:
        seed: of the updates.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def train(
        self,
        *,
        client: str,
        round_number: int,
        start: Vector,
        trained: Layout,
        examples: Sequence[TokenizedExample],
        num_seen: int,
        learning_rate: float,
        correction: Vector | None,
        on_step: Callable[[StepReport], None] | None,
    ) -> LocalResult:
        """See `confide.parties.training.Trainer`."""
        del examples, num_seen, learning_rate, correction, on_step
        began = time.perf_counter()
        vector = start + draw_update(self._seed, client, round_number, trained.num_values)
        return LocalResult(
            vector=vector,
            metrics=LocalMetrics(
                num_steps=1,
                num_examples=1,
                num_tokens=1,
                num_targets=1,
                loss=1.0,
                first_loss=1.0,
                last_loss=1.0,
                regularizer=0.0,
                gradient_norm=1.0,
                seconds=time.perf_counter() - began,
            ),
        )


class Keeper(Protocol):
    """Takes a client's state before the client goes on from it."""

    def __call__(self, state: ClientState) -> None:
        """Keeps it."""
        ...


class Member:
    """What `confide.deploy.node.Node` is in a real run, less the model and the policy.

    Args:
        folder: for its files.
        identity: its keys.
        work: says how many values an update has.
    """

    def __init__(self, folder: Path, identity: Identity, work: DeploymentWork) -> None:
        self._folder = folder
        self._identity = identity
        self._work = work
        self._client: Client | None = None

    def handle(self, request: bytes) -> bytes:
        """Answers one request.

        Raises:
            ConfideError: what it asked for failed.
        """
        message = decode(request)
        if isinstance(message, OfferRequest):
            return self._take(message)
        if self._client is None:
            raise MessageError("nothing was offered yet")
        if isinstance(message, FinishRequest):
            number = self._client.state.shared.round_number
            return FinishReply(run=message.run, round_number=number, client=self._client.name).to_bytes()
        return self._client.handle(request)

    def _take(self, offer: OfferRequest) -> bytes:
        terms = Terms.from_request(offer)
        layout = make_layout(self._work.num_values)
        self._client = self._make(terms, layout)
        name = self._client.name
        proof = presence_statement(
            run=terms.run, challenge=offer.challenge, roster_digest=terms.members.digest, sender=name
        )
        return OfferReply(
            run=terms.run,
            round_number=0,
            client=name,
            proof=self._identity.sign(proof).hex(),
            base_digest="none",
            body=pack_parts({"layout": layout.to_json().encode(), "adapter": b"{}"}),
        ).to_bytes()

    def _make(self, terms: Terms, layout: Layout) -> Client:
        config, roster, name = read_offer(terms.config), terms.members, self._identity.public.name
        threshold = opening_threshold(config, len(roster.names))
        sealing = build_sealing(config, roster, threshold).client
        directory = RunDirectory.create(
            self._folder / terms.run[:12],
            config_toml=terms.config.decode(),
            name="bench",
            seed=self._work.seed,
            notes={"id": terms.run},
        )
        private, point = directory.path / "clients", roster.point_of(name)
        return Client(
            run=terms.run,
            rules=client_rules(
                config, agree(config, layout), num_clients=len(roster.names), sealing=sealing, fixed_limit=0.0
            ),
            state=ClientState(shared=GlobalState(layout=layout, round_number=0, adapter=make_start(layout))),
            examples=_EXAMPLES,
            trainer=DrawingTrainer(self._work.seed),
            sealing=sealing,
            keys=KeyHolder(
                identity=self._identity,
                roster=roster,
                ledger=build_ledger(private, point),
                sealing=sealing,
                min_clients=config.federation.min_clients,
                threshold=threshold,
                tried=build_tried_sums(private, point),
            ),
            privacy=NoPrivacy(),
            evaluate=lambda adapter: {},  # noqa: ARG005  there is no model
            store=build_pending_store(private, point),
            kept=build_kept_store(private, point),
            releases=build_releases(private, point),
            keep=keeper(directory, name),
        )


def keeper(directory: RunDirectory, name: str) -> Keeper:
    """Writes what a real member writes after a round: the adapter, and the state to go on from."""

    def keep(state: ClientState) -> None:
        number, layout = state.shared.round_number, state.shared.layout
        with directory.new_round(number) as folder:
            (folder / "adapter_model.safetensors").write_bytes(save(layout.unflatten(state.shared.adapter)))
            own = folder / "state"
            own.mkdir(mode=0o700)
            (own / "global.safetensors").write_bytes(state.shared.to_bytes())
            (own / "own.safetensors").write_bytes(pack_own(name, state))
        directory.publish(number)

    return keep


def main() -> None:
    """Answers for all members until the process is ended."""
    folder, sockets = Path(sys.argv[1]), Path(sys.argv[2])
    work = DeploymentWork.from_json((folder / WORK_FILE).read_text())
    names = sorted(member.name for member in (folder / MEMBERS).iterdir())
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_answer_for, args=(folder / MEMBERS / name, sockets / name, work)) for name in names
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _answer_for(place: Path, socket: Path, work: DeploymentWork) -> None:
    member = Member(place, Identity.load(place / IDENTITY, None), work)
    serve(socket, member.handle, kept=place / "answers", is_stopped=lambda: False)


if __name__ == "__main__":
    main()
