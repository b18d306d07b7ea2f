"""From a configuration to the objects that run: the one place that knows every choice by name.

Configuration stops here. What is built takes plain arguments.
"""

from confide.build.client import ClientMaker, build_optimizer, local_settings
from confide.build.data import build_examples, build_flipped, build_records, build_template, build_tokenizer
from confide.build.federation import build_federation, describe_protection
from confide.build.model import apply_threads, build_model

__all__ = [
    "ClientMaker",
    "apply_threads",
    "build_examples",
    "build_federation",
    "build_flipped",
    "build_model",
    "build_optimizer",
    "build_records",
    "build_template",
    "build_tokenizer",
    "describe_protection",
    "local_settings",
]
