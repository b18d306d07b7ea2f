"""The server's part of a run between organisations: the rounds, what is kept of them, and how a run is taken up again.

Needs no model, no data and no torch. The run directory holds, beside what every run has:

    server.log                what happened: who was left out, and why
    terms                     what was offered: configuration, roster, nonce
    rounds/0007/              record.json, clients.json, server.json; the global adapter only where clients hand it over
    opening                   a round whose key is released: from then on clients may hold the next state already
    uploads/                  sealed updates of the round at hand
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.numpy import save

from confide.agreed import (
    Agreed,
    agree,
    build_notes,
    build_server,
    build_server_sealing,
    check_weights,
    opening_threshold,
    seeded,
)
from confide.asking import Wire
from confide.config.schema import Config
from confide.deploy.attendance import Attendance, Present
from confide.deploy.run_config import offered_toml, read_offer
from confide.deploy.terms import Terms
from confide.errors import (
    ConfideError,
    ConfigError,
    MessageError,
    PrivacyBudgetError,
    RoundFailedError,
    RunDirectoryError,
    RunInterrupted,
)
from confide.files import write_atomic
from confide.membership.roster import Roster
from confide.messages import (
    FinishReply,
    FinishRequest,
    JoinReply,
    OfferRequest,
    OpenReply,
    TrainRequest,
    read_heading,
)
from confide.parties.bodies import FileBodies
from confide.parties.opening import Opening, state_from_json, state_to_json
from confide.parties.server import ServerState
from confide.records import RoundRecord
from confide.round import RoundResult, bring_up_to_date, join_all, open_round, run_round, state_of
from confide.round_record import carry_epsilon
from confide.run import RECORD_FILE, RunDirectory
from confide.transport.base import Introducing

TERMS_FILE = "terms"
LOG_FILE = "server.log"
_OPENING, _SERVER, _UPLOADS = "opening", "server.json", "uploads"
_LOOK_SECONDS = 1.0
_MAX_NOTICES = 100
_OFFER_SECONDS = 60.0  # who takes longer, to load a model perhaps, is asked again while the run waits for members

_logger = logging.getLogger(__name__)


def start_run(folder: Path, config: Config, roster: Roster) -> RunDirectory:
    """Makes the run directory of a new run, for `coordinate_run`.

    Args:
        folder: of the run; must not be there yet.
        config: as `confide.deploy.run_config.load_run_config` gives it.
        roster: the members.

    Raises:
        ConfigError: the run cannot be with these members.
        RunDirectoryError: there is something at `folder` already.
    """
    num_members = len(roster.names)
    build_server_sealing(config)
    least = max(
        opening_threshold(config, num_members), config.federation.min_clients, config.federation.clients_per_round
    )
    if least > num_members:
        raise ConfigError(
            f"the roster has {num_members} members, and the configuration needs {least} (federation.min_clients, "
            "federation.clients_per_round, seal.threshold). Lower these, or have more members."
        )
    toml = offered_toml(config)
    terms = Terms.new(toml, roster)
    directory = RunDirectory.create(
        folder, config_toml=toml, name=config.run.name, seed=config.run.seed, notes={"id": terms.run}
    )
    try:
        terms.save(folder / TERMS_FILE)
    except BaseException:
        directory.discard()
        raise
    return directory


def coordinate_run(
    folder: Path,
    transport: Introducing,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Runs a run to its end, from its start or from where it stopped.

    Args:
        folder: the run directory, with its terms.
        transport: to the nodes.
        clock: gives the time in seconds; for tests.
        sleep: waits for so many seconds; for tests.

    Raises:
        ConfideError: the run could not go on; its status says why, and the last complete round is saved.
    """
    directory = RunDirectory.open(folder)
    with directory.locked(), _logging_to(folder / LOG_FILE):
        directory.set_status("running", reason="", notices=[], num_notices=0)
        try:
            Coordinator(directory, transport, Terms.load(folder / TERMS_FILE), clock=clock, sleep=sleep).run()
        except BaseException as error:
            # Flower ends a run that the operator stops by SystemExit.
            interrupted = isinstance(error, RunInterrupted | KeyboardInterrupt | SystemExit)
            reason = str(error) if isinstance(error, ConfideError) else type(error).__name__
            _set_status(directory, "interrupted" if interrupted else "failed", reason)
            raise


class Coordinator:
    """One run at the server.

    Args:
        directory: of the run.
        transport: to the nodes.
        terms: of the run.
        clock: gives the time in seconds.
        sleep: waits for so many seconds.

    Raises:
        ConfigError: the offered configuration cannot work.
    """

    def __init__(
        self,
        directory: RunDirectory,
        transport: Introducing,
        terms: Terms,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._directory = directory
        self._transport = transport
        self._terms = terms
        self._config: Config = read_offer(terms.config)
        self._clock = clock
        self._sleep = sleep
        self._notices: list[str] = []
        self._attendance = Attendance(transport, terms, self._tell)
        self._bodies = FileBodies(directory.path / _UPLOADS)
        self._least = max(
            self._config.federation.min_clients, opening_threshold(self._config, len(terms.members.names))
        )

    def run(self) -> None:
        """Runs all rounds that are left; a run that is over ends at who has not heard it or lacks the last adapter."""
        directory, config = self._directory, self._config
        directory.clean()
        directory.mend_final()
        directory.rebuild_records()
        ended = directory.info.get("ended")
        if ended is not None:
            self._end_again(str(ended))
            return
        self._gather(self._terms.members.names)
        self._check_attendance()
        present = self._attendance.settle()
        self._check_attendance()
        agreed = self._build(present)
        state = self._start(present)
        check_weights({name: agreed.weight(count) for name, count in state.num_examples.items()})
        reason = ""
        try:
            while state.round_number < config.federation.rounds:
                self._attendance.try_to_look(again=False)
                state = self._round(state, present)
        except PrivacyBudgetError as error:
            is_kept_to = config.privacy.unit != "none"  # else there is no budget: the run fails, and can go on
            if not is_kept_to or config.privacy.on_budget != "stop" or state.round_number == 0:
                raise
            reason = f"{error} The last model inside the budget is saved at the members."
            self._tell(f"the run ends after round {state.round_number}: {reason}")
        self._end(state, reason)

    def _build(self, present: Present) -> Agreed:
        """Makes the server's part, as the members' model has it."""
        config = self._config
        agreed = agree(config, present.layout)
        self._notes = build_notes(config, agreed, guarantee=_guarantee(config))
        self._server = build_server(
            config,
            agreed,
            present.layout,
            self._terms.members,
            run=self._terms.run,
            sealing=build_server_sealing(config),
            bodies=self._bodies,
        )
        return agreed

    def _end(self, state: ServerState, reason: str) -> None:
        """Ends the run; noted first, so that it ends even if it is stopped before the members know.

        A member that missed the last opening gets the adapter now. Where one that took part is away, none is told to
        finish yet: those that have the adapter can still hand it over when the run is resumed.
        """
        behind = self._note_end(state, reason)
        if behind:
            self._attendance.try_to_look()
            state = bring_up_to_date(self._server, Wire(self._transport), state)
            behind = self._note_end(state, reason)
        if behind:
            self._tell(
                f"the run is over, and its last adapter is not at {', '.join(behind)}: start what is missing, and "
                "`confide deploy run --resume` hands it over and ends the run at all members"
            )
        else:
            self._finish(state)
        self._directory.set_status("finished", reason=reason)

    def _note_end(self, state: ServerState, reason: str) -> list[str]:
        """Notes that the run is over, and which members that took part lack its last adapter."""
        have_it = self._saved(state.round_number).current | state.current
        behind = sorted(set(state.num_examples) - have_it)
        self._directory.set_status("running", ended=reason, behind=behind)
        return behind

    def _end_again(self, reason: str) -> None:
        """Ends a run that was over and is resumed, for good: hands over the last adapter, and lets all finish.

        Raises:
            RoundFailedError: no member is there that has the last adapter.
        """
        directory = self._directory
        state = self._saved(directory.last_round())
        noted = directory.info.get("behind")
        if isinstance(noted, list) and noted:
            self._gather(sorted(state.num_examples))
            state = self._hand_over(state)
            lacking = sorted({str(name) for name in noted} - state.current)
            if lacking:
                told = f"the last adapter is not at {', '.join(lacking)}: any other member that took part has it"
                self._tell(told)
                reason = f"{reason} {told}" if reason else told
            directory.set_status("running", ended=reason, behind=[])
        else:  # stopped while it told the members
            self._attendance.look()
        self._finish(state)
        directory.set_status("finished", reason=reason)

    def _hand_over(self, saved: ServerState) -> ServerState:
        """Brings who is there up to the last adapter."""
        current: dict[str, JoinReply] = {}
        if self._attendance.names:
            self._build(self._attendance.settle())
            stands = (saved.round_number, saved.adapter_digest)
            joined = join_all(self._server, self._transport)
            current = {
                name: reply for name, reply in joined.items() if (reply.round_number, reply.adapter_digest) == stands
            }
        if not current:
            raise RoundFailedError(
                "no member is there that has the last adapter. Start the members with `confide deploy client`, and go "
                "on with `confide deploy run --resume`."
            )
        state = replace(
            saved,
            current=frozenset(current),
            signatures={**saved.signatures, **{name: reply.signature for name, reply in current.items()}},
            counted=saved.counted - current.keys(),
        )
        return bring_up_to_date(self._server, Wire(self._transport), state)

    def _gather(self, names: Collection[str]) -> None:
        """Waits until these members are there, or time is up."""
        deadline = self._clock() + self._config.deploy.join_seconds
        told: list[str] = []
        is_over = False
        while True:
            self._attendance.try_to_look()
            missing = sorted(set(names) - self._attendance.names)
            if not missing or is_over:
                break
            is_over = self._clock() >= deadline  # and one look more: who came meanwhile is not lost
            if missing != told:
                self._tell(f"waiting for {', '.join(missing)}")
                told = missing
            self._sleep(_LOOK_SECONDS)
        if missing:
            self._tell(f"going on without {', '.join(missing)}")

    def _tell(self, line: str) -> None:
        """Lets the operator know: in the log, and in run.json, which `confide deploy run` follows."""
        _logger.warning("%s", line)
        self._notices.append(line)
        self._directory.set_status("running", notices=self._notices[-_MAX_NOTICES:], num_notices=len(self._notices))

    def _check_attendance(self) -> None:
        names = self._attendance.names
        if len(names) < self._least:
            reasons = "; ".join(f"{node}: {reason}" for node, reason in sorted(self._attendance.reasons.items()))
            raise RoundFailedError(
                f"{len(names)} of {len(self._terms.members.names)} members are there, {self._least} are needed "
                f"(federation.min_clients, seal.threshold). {reasons or 'No other node is online'}. Start the missing "
                "ones with `confide deploy client`, and go on with `confide deploy run --resume`."
            )

    def _start(self, present: Present) -> ServerState:
        """Where the run begins or goes on."""
        joined = join_all(self._server, self._transport)
        if not self._directory.rounds():
            state = state_of(joined)
            if state.round_number:
                raise RunDirectoryError(
                    f"the members have done {state.round_number} rounds of this run, and {self._directory.path} has "
                    "none: it was lost or put back. Start a new run"
                )
            with self._directory.new_round(0) as folder:
                (folder / _SERVER).write_text(state_to_json(state))
            self._directory.publish(0)
            return state
        last = self._directory.last_round()
        saved = self._saved(last)
        opening = self._opening(last + 1)
        ahead = _ahead(joined, last)
        if opening is not None:
            try:
                return self._take_up(opening, joined, ahead, present)
            except RoundFailedError as error:
                joined = join_all(self._server, self._transport)  # somebody may have opened it meanwhile
                if _ahead(joined, last) or len(joined) < len(self._terms.members.names):
                    raise  # taken up again by the next resume
                self._tell(f"nobody has opened the sum of round {last + 1}, and it does not open: {error}")
            self._drop_opening()  # the round is done again
        current = {name: reply for name, reply in joined.items() if reply.adapter_digest == saved.adapter_digest}
        if ahead or not current:
            raise RunDirectoryError(
                f"{self._directory.path} stands after round {last}, and the members do not: "
                f"{len(ahead)} of {len(joined)} are further, {len(current)} stand where it says. It was put back from "
                "a backup, or the members were. Start a new run"
            )
        return replace(
            saved,
            current=frozenset(current),
            num_examples={**{name: reply.num_examples for name, reply in joined.items()}, **saved.num_examples},
            signatures={**saved.signatures, **{name: reply.signature for name, reply in current.items()}},
            counted=saved.counted - current.keys(),
        )

    def _take_up(
        self, opening: Opening, joined: Mapping[str, JoinReply], ahead: Mapping[str, JoinReply], present: Present
    ) -> ServerState:
        """Finishes a round that the server was stopped in after some members had opened its sum."""
        self._tell(f"round {opening.plan.round_number} is taken up where it was: {len(ahead)} members have opened it")
        before = opening.before
        at = {name for name, reply in joined.items() if reply.adapter_digest == before.adapter_digest}
        opened = {
            name: OpenReply(
                run=reply.run,
                round_number=reply.round_number,
                client=name,
                adapter_digest=reply.adapter_digest,
                signature=reply.signature,
                metrics={},
            )
            for name, reply in ahead.items()
            if reply.round_number == opening.plan.round_number
        }
        opening = replace(opening, before=replace(before, current=frozenset(at)))
        began = time.perf_counter()
        result = open_round(self._server, self._transport, opening, self._notes, opened_before=opened)
        return self._save(result, began, present)

    def _round(self, state: ServerState, present: Present) -> ServerState:
        began = time.perf_counter()

        def keep(opening: Opening) -> None:
            write_atomic(self._directory.path / _OPENING, opening.to_bytes())

        result = run_round(self._server, self._transport, state, self._notes, keep=keep)
        return self._save(result, began, present)

    def _save(self, result: RoundResult, began: float, present: Present) -> ServerState:
        directory, number = self._directory, result.state.round_number
        records = directory.records()
        seconds = {**result.record.seconds, "save": 0.0, "total": time.perf_counter() - began}
        record = replace(carry_epsilon(result.record, records[-1] if records else None), seconds=seconds)
        with directory.new_round(number) as folder:
            (folder / _SERVER).write_text(state_to_json(result.state))
            (folder / RECORD_FILE).write_text(record.to_json() + "\n")
            (folder / "clients.json").write_text(
                json.dumps([asdict(one) for one in result.diagnostics], indent=2) + "\n"
            )
            if result.shared is not None:
                tensors = result.shared.layout.unflatten(result.shared.adapter)
                (folder / "adapter_model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
                (folder / "adapter_config.json").write_bytes(present.adapter)
        directory.publish(number)
        directory.append_record(record)
        self._drop_opening()
        self._bodies.clear()
        _log_round(record)
        return result.state

    def _finish(self, state: ServerState) -> None:
        """Tells the members that the run is over; who does not hear it keeps its state and nothing worse."""
        request = FinishRequest(run=self._terms.run, round_number=state.round_number).to_bytes()

        def read(client: str, reply: FinishReply) -> FinishReply:
            if (reply.run, reply.client) != (self._terms.run, client):
                raise MessageError(f"client {client} answered for another run or client")
            return reply

        names = sorted(self._attendance.names)
        Wire(self._transport).ask(dict.fromkeys(names, request), FinishReply, read=read)

    def _saved(self, number: int) -> ServerState:
        path = self._directory.round_folder(number) / _SERVER
        try:
            return state_from_json(path.read_text())
        except (OSError, MessageError) as error:
            raise RunDirectoryError(f"{path} cannot be read: {error}") from error

    def _opening(self, number: int) -> Opening | None:
        """What was kept of round `number`, if its key was released."""
        path = self._directory.path / _OPENING
        if not path.exists():
            return None
        try:
            opening = Opening.from_bytes(path.read_bytes())
        except (OSError, MessageError) as error:
            raise RunDirectoryError(f"{path} cannot be read: {error}") from error
        return opening if opening.plan.round_number == number else None

    def _drop_opening(self) -> None:
        (self._directory.path / _OPENING).unlink(missing_ok=True)


def phase_seconds(folder: Path) -> Callable[[bytes], float]:
    """How long an answer to a request of a run may take, in seconds.

    Args:
        folder: the run directory.

    Raises:
        RunDirectoryError, ConfigError: its terms cannot be read.
    """
    deploy = read_offer(Terms.load(folder / TERMS_FILE).config).deploy

    offer = min(deploy.join_seconds, _OFFER_SECONDS)
    kinds = {OfferRequest: offer, TrainRequest: deploy.train_seconds}
    return lambda request: kinds.get(read_heading(request).kind, deploy.answer_seconds)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Lets the package's log go into a file while the body runs."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger, before = logging.getLogger("confide"), logging.getLogger("confide").level
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


def _ahead(joined: Mapping[str, JoinReply], number: int) -> dict[str, JoinReply]:
    """Those that are further than round `number`."""
    return {name: reply for name, reply in joined.items() if reply.round_number > number}


def _guarantee(config: Config) -> str:
    """What the server can say: each member's plan is its own, and its guarantee with it."""
    if config.privacy.unit == "none":
        return "no formal guarantee: differential privacy is off"
    return (
        f'differential privacy of the unit "{config.privacy.unit}"; epsilon is the most that any member reports'
        f"{seeded(config)}"
    )


def _log_round(record: RoundRecord) -> None:
    _logger.info("round %d is complete: %s", record.round_number, ", ".join(record.members))


def _set_status(directory: RunDirectory, status: str, reason: str) -> None:
    try:
        directory.set_status(status, reason=reason)
    except ConfideError as error:
        _logger.warning("the run's status could not be written: %s", error)
