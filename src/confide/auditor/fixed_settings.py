"""What decides an audit's numbers and is not asked for: how records are read, and what attacks have as constants."""

from confide.attacks.extraction.disturbed import REPLACED_SHARE
from confide.attacks.extraction.scoring import NEAR_DISTANCE
from confide.audit.extraction.from_nothing import MATCHED
from confide.audit.extraction.samples import TOP_K
from confide.audit.extraction.tasks import LONG, SHORT
from confide.audit.extraction.weight_space import GAMMAS
from confide.audit.results import Setting
from confide.config.schema import Config


def fixed_settings(config: Config) -> dict[str, Setting]:
    """How an audit by this configuration reads records and attacks, as results hold it, beside `settings_of`."""
    read: dict[str, Setting] = {
        "data.template": config.data.template,
        "train.max_tokens": config.train.max_tokens,
        "evaluate.batch_size": config.evaluate.batch_size,
    }
    if "extraction" not in config.audit.attacks:
        return read
    return read | {
        "shares of a record given": [LONG, SHORT],
        "share of words replaced in a disturbed prefix": REPLACED_SHARE,
        "edit distance of a near match": NEAR_DISTANCE,
        "ROUGE-L of a match from nothing": MATCHED,
        "steps beyond the final model": list(GAMMAS),
        "sampling of the chance to come out": TOP_K.name,
    }
