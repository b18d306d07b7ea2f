"""Audits a run, or anybody's folder of adapters: puts data, models, views and attacks together, writes the results."""

from confide.auditor.audit import audit_adapters, audit_run
from confide.auditor.audited import results_path
from confide.auditor.conclusions import settings_of
from confide.auditor.of_adapters import AdaptersToAudit, config_of_adapters
from confide.auditor.of_run import config_of_run
from confide.auditor.request import ATTACK_KEYS, AuditRequest

__all__ = [
    "ATTACK_KEYS",
    "AdaptersToAudit",
    "AuditRequest",
    "audit_adapters",
    "audit_run",
    "config_of_adapters",
    "config_of_run",
    "results_path",
    "settings_of",
]
