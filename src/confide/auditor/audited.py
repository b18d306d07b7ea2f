"""What is audited, a run or a folder of adapters, read and ready to be attacked."""

from dataclasses import dataclass
from pathlib import Path

from confide.audit.results import RunFacts
from confide.auditor.adapters import Adapters
from confide.auditor.canary_clients import CanaryClients
from confide.auditor.case import Case
from confide.auditor.participation import Participation
from confide.auditor.request import Attackers
from confide.auditor.views import ViewMaker
from confide.config.schema import Config
from confide.model.lora import AdaptedModel

RESULTS_FILE = "audit.json"


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What is audited.

    Attributes:
        config: as trained, with what the request changes.
        model: that adapters are written into.
        adapters: the global ones.
        case: what to ask, and the truth.
        views: makes each party's.
        attackers: which clients attack; nobody by name where the clients are not known.
        participation: which clients took part; None where all did, or where that is not known.
        is_recorded: whether there is a transcript.
        is_claimed: whether it is the user who says who was trained on, and not the run.
        facts: for the report, without utility.
        folder: `audit` in it gets results and the cache.
        command: words that make the same audit again.
        warnings: what weakens the audit, in sentences.
        doubts: which of them say that the numbers mean nothing, unless the user shows otherwise.
        canary_clients: those that took part, and what the run claims; None in a run without any.
    """

    config: Config
    model: AdaptedModel
    adapters: Adapters
    case: Case
    views: ViewMaker
    attackers: Attackers
    participation: Participation | None
    is_recorded: bool
    is_claimed: bool
    facts: RunFacts
    folder: Path
    command: tuple[str, ...]
    warnings: tuple[str, ...]
    canary_clients: CanaryClients | None = None
    doubts: tuple[str, ...] = ()


def results_path(folder: Path) -> Path:
    """Where the results on a run, or on adapters, are written."""
    return folder / "audit" / RESULTS_FILE
