"""One audit from start to end: from whose point of view, by which attacks, and what came of it."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.canary_clients import LOOKED_FROM
from confide.audit.exposure import audit_exposure
from confide.audit.extraction import TOP_K, ExtractionSettings, audit_extraction
from confide.audit.judging import Findings
from confide.audit.measure_names import ASKED_AS
from confide.audit.membership import audit_membership
from confide.audit.reported import audit_reported
from confide.audit.results import AuditResults
from confide.audit.truth import Population
from confide.audit.updates import audit_updates, rows_of
from confide.audit.users import audit_users
from confide.auditor.audited import Audited, results_path
from confide.auditor.canary_clients import CanaryClients, look_for_canary_clients
from confide.auditor.conclusions import conclude
from confide.auditor.evidence import doubts, few_records
from confide.auditor.left_out import left_out
from confide.auditor.of_adapters import AdaptersToAudit, open_adapters
from confide.auditor.of_run import Progress, open_run
from confide.auditor.participation import Participation
from confide.auditor.parties import Parties
from confide.auditor.passive import KIND
from confide.auditor.request import AuditRequest
from confide.auditor.shadows import ShadowModels, train_shadows, training_of
from confide.auditor.views import MOST_UPDATE_ROUNDS
from confide.errors import UsageError
from confide.files import make_folder, storage_error, write_atomic
from confide.model.lora import AdaptedModel

_KEY_BYTES = 32


def audit_run(
    run: Path,
    request: AuditRequest | None = None,
    *,
    model: AdaptedModel | None = None,
    progress: Progress | None = None,
) -> AuditResults:
    """Audits the last complete round of a run; writes RUN/audit/audit.json.

    Args:
        run: the run directory.
        request: what to do; as the run's configuration says if None.
        model: as `build_model` makes it for the run's configuration; None to do that here. Overwritten.
        progress: told what is being done, a phrase each time.

    Raises:
        UsageError: see `open_run`; or a coalition is asked for among fewer than three clients, or shadow models
            without an attack that reads them; or nothing at all was measured: then earlier results stay as they are.
        DataError: there is nothing to compare members with.
        RunError: a model or a score is not finite.
        StorageError: results or passes cannot be written.
    """
    began = time.perf_counter()
    request, progress = request or AuditRequest(), progress or _say_nothing
    return _Audit(open_run(run, request, model=model, progress=progress), request, progress, began).run()


def audit_adapters(
    given: AdaptersToAudit, request: AuditRequest | None = None, *, progress: Progress | None = None
) -> AuditResults:
    """Audits adapters from anywhere; writes OUT/audit/audit.json.

    Args:
        given: what to audit.
        request: what to do.
        progress: told what is being done, a phrase each time.

    Raises:
        UsageError: see `open_adapters`; or nothing at all was measured.
        DataError, RunError, StorageError: see `audit_run`.
    """
    began = time.perf_counter()
    request, progress = request or AuditRequest(), progress or _say_nothing
    return _Audit(open_adapters(given, request, progress=progress), request, progress, began).run()


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A family of attacks on one kind of records from one view."""

    phrase: str
    do: Callable[[], Findings]


class _Audit:
    def __init__(self, audited: Audited, request: AuditRequest, progress: Progress, began: float) -> None:
        self._audited = audited
        self._request = request
        self._progress = progress
        self._began = began
        self._wanted = audited.config.audit.attacks
        self._parties = Parties(audited)
        self._findings = Findings()
        if "coalition" in request.views and not audited.attackers.together:
            raise UsageError(
                "--view coalition needs a run of at least three clients: of two, a coalition would be everybody."
            )
        if request.shadows and not ("membership" in self._wanted and self._parties.with_adapters):
            raise UsageError(
                "--shadows trains models for attacks of the family membership, from the views of those who have an "
                "adapter (final, client, coalition), and none of those is asked for: leave it out, or name them with "
                "--attack and --view."
            )
        self._folder = results_path(audited.folder).parent
        make_folder(self._folder)
        self._redaction_key = _kept_key(self._folder / "redaction.key")
        self._passes = Passes(
            audited.model, self._folder / "cache", batch_size=audited.config.evaluate.batch_size, schemes=(TOP_K,)
        )

    def run(self) -> AuditResults:
        few = few_records(self._audited.case)
        steps = list(self._steps())
        for number, step in enumerate(steps, start=1):
            self._progress(f"{number}/{len(steps)} {step.phrase}")
            self._findings.add(step.do())
        if not (self._findings.found or self._findings.epsilons):
            raise UsageError(self._nothing())
        self._progress("usefulness")
        missing = left_out(self._audited, self._parties)
        evidence = self._evidence()
        warnings = [*self._audited.warnings, *few, *evidence.warnings, *missing, *self._findings.all_warnings()]
        self._findings.doubts[:0] = [*self._audited.doubts, *evidence.doubts]
        seconds = time.perf_counter() - self._began
        results = conclude(self._audited, self._findings, warnings, self._passes, seconds)
        write_atomic(results_path(self._audited.folder), results.to_json())
        return results

    def _nothing(self) -> str:
        """Why nothing was measured, for the user."""
        audit = self._audited.config.audit
        why = " ".join([*self._audited.warnings, *self._findings.all_warnings(), *self._findings.epsilon_gaps])
        return (
            f"attacks of {', '.join(audit.attacks)} from the view of {', '.join(audit.views)} measured nothing, so no "
            "results are written. Models are attacked from the views of those who have an adapter, updates where the "
            f"run was recorded: ask for another --view or --attack. {why}".rstrip()
        )

    def _evidence(self) -> Findings:
        """What the losses say against what the user said; a run says itself who was trained on."""
        if not self._audited.is_claimed:
            return Findings()
        adapters = self._audited.adapters
        return doubts(self._passes, adapters.read(adapters.last), self._audited.case)

    def _steps(self) -> Iterator[_Step]:
        families = (
            ("membership", self._membership),
            ("extraction", self._extraction),
            ("exposure", self._exposure),
        )
        for view in self._parties.with_adapters:
            for population in self._audited.case.populations:
                for family, attack in families:
                    if family in self._wanted and (family != "exposure" or population.has_secrets):
                        phrase = f"{family}: {population.name}, seen by {view.party}"
                        yield _Step(phrase=phrase, do=partial(attack, view, population))
            participation = self._audited.participation
            if participation is not None and "membership" in self._wanted:
                phrase = f"membership: clients, seen by {view.party}"
                yield _Step(phrase=phrase, do=partial(self._users, view, participation))
        if "updates" in self._wanted and self._audited.is_recorded:
            yield _Step(phrase="updates", do=self._updates)
        if self._audited.canary_clients is not None:
            yield _Step(phrase="canary clients", do=partial(self._canary_clients, self._audited.canary_clients))

    def _canary_clients(self, clients: CanaryClients) -> Findings:
        seen = [view for view in self._parties.with_adapters if view.name in LOOKED_FROM]
        return look_for_canary_clients(clients, seen, self._audited.adapters)

    def _membership(self, view: View, population: Population) -> Findings:
        case, asked = self._audited.case, population.of_others(view.own_clients).candidates
        return audit_membership(
            view,
            self._passes,
            population,
            case.truth,
            held_out=case.held_out,
            rounds=self._parties.rounds(view),
            seed=self._audited.config.run.seed,
            shadows=None if self._shadows is None else self._shadows.shown(self._passes, asked, case.held_out),
        )

    @cached_property
    def _shadows(self) -> ShadowModels | None:
        """Trained when the first attack needs them; None where none are asked for."""
        audited, num_shadows = self._audited, self._audited.config.audit.shadows
        if not num_shadows:
            return None
        return train_shadows(
            audited.model,
            training_of(audited.config, audited.adapters, audited.model.layout),
            [candidate for population in audited.case.populations for candidate in population.candidates],
            num_shadows=num_shadows,
            folder=self._folder / "shadows",
            progress=self._progress,
        )

    def _users(self, view: View, participation: Participation) -> Findings:
        return audit_users(
            view,
            self._passes,
            participation.fresh,
            participation.took_part,
            is_randomised=participation.is_drawn,
            final_round=self._parties.rounds(view)[-1],
            seed=self._audited.config.run.seed,
        )

    def _extraction(self, view: View, population: Population) -> Findings:
        config = self._audited.config
        return audit_extraction(
            view,
            self._passes,
            _at_most(population, config.audit.records_per_attack),
            self._audited.case.truth,
            rounds=self._parties.rounds(view),
            settings=ExtractionSettings(
                max_new_tokens=config.audit.max_new_tokens,
                num_texts=config.audit.samples,
                batch_size=config.evaluate.batch_size,
                seed=config.run.seed,
                taus=config.audit.taus,
                top_ps=config.audit.top_ps,
                protocol=config.audit.protocol,
                shows_text=self._request.shows_text,
                redaction_key=self._redaction_key,
            ),
        )

    def _exposure(self, view: View, population: Population) -> Findings:
        return audit_exposure(
            view, self._passes, population, self._audited.case.truth, final_round=self._parties.rounds(view)[-1]
        )

    def _updates(self) -> Findings:
        """The table of what each protection of an update buys; on plain records where there are any."""
        audited, wanted = self._audited, self._audited.config.audit.views
        server, seed = self._parties.server, audited.config.run.seed
        is_sealed = server.name == "sealed-server"
        rows = rows_of(
            audited.views.server(),
            server if is_sealed else None,
            self._parties.clients,
            is_sealed=is_sealed,
            seed=seed,
            most_rounds=MOST_UPDATE_ROUNDS,
        )
        by_name = {population.name: population for population in audited.case.populations}
        population, truth = by_name.get(KIND) or audited.case.populations[0], audited.case.truth
        population = _at_most(population, audited.config.audit.records_per_attack)
        findings = audit_updates(
            [row for row in rows if ASKED_AS.get(row.view, row.view) in wanted],
            self._passes,
            population,
            truth,
            seed=seed,
        )
        if is_sealed and "server" in wanted:
            findings.add(audit_reported(server, self._passes, population, truth, seed=seed))
        return findings


def _at_most(population: Population, per_client: int) -> Population:
    """At most so many candidates of each client."""
    taken: Counter[str] = Counter()
    chosen = []
    for candidate in population.candidates:
        taken[candidate.owner] += 1
        if taken[candidate.owner] <= per_client:
            chosen.append(candidate)
    return replace(population, candidates=tuple(chosen), lower=None)


def _kept_key(path: Path) -> bytes:
    """The key that stands between a text that came out and its digest in the results: the same in every audit."""
    try:
        if not path.exists():
            write_atomic(path, secrets.token_bytes(_KEY_BYTES))
            path.chmod(0o600)
        return path.read_bytes()
    except OSError as error:
        raise storage_error(path, error) from error


def _say_nothing(_phrase: str) -> None:
    pass
