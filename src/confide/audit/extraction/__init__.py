"""Extraction from one party's view, scored: what of the training text comes out, and how much more than by other means?

Every prompt is given to the base model as well, and every kind of prompt to records that nobody trained on.
"""

from confide.audit.extraction.audit import audit_extraction
from confide.audit.extraction.probe import ExtractionSettings
from confide.audit.extraction.samples import TOP_K

__all__ = ["TOP_K", "ExtractionSettings", "audit_extraction"]
