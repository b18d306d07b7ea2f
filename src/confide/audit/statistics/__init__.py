"""Statistics that hold: numbers about attacks with intervals, tests and the records they would need.

Pure functions on numpy arrays; nothing here knows a model, a run or a file. Higher score = member, everywhere.
"""

from confide.audit.statistics.area import Auc, AucInterval, auc, auc_interval, auc_value
from confide.audit.statistics.epsilon_canary_clients import (
    CanaryClientEpsilon,
    all_iterates_epsilon,
    canary_cosines,
    final_model_epsilon,
    random_directions,
)
from confide.audit.statistics.epsilon_ceiling import Ceilings, ceilings, one_run_best, two_sample_best
from confide.audit.statistics.epsilon_choice import (
    ChosenBound,
    GuessPlan,
    count_guesses,
    default_plans,
    one_run_bound,
    planned_guesses,
    threshold_bound,
)
from confide.audit.statistics.epsilon_one_run import (
    Guesses,
    f_dp_epsilon,
    f_dp_mu,
    one_run_epsilon,
    one_run_p_value,
)
from confide.audit.statistics.epsilon_two_sample import (
    Decisions,
    bayesian_epsilon,
    clopper_pearson_epsilon,
    gaussian_mechanism_epsilon,
)
from confide.audit.statistics.gaussian_curve import (
    gaussian_epsilon,
    gaussian_log_delta,
    gaussian_mu,
    normal_pair_epsilon,
)
from confide.audit.statistics.interval import CONFIDENCE, Alternative, Difference, Interval
from confide.audit.statistics.mean_power import MeanControls, finds_half_in_mean, records_for_half_in_mean
from confide.audit.statistics.means import (
    PairedMeanDifference,
    mean_difference,
    mean_interval,
    paired_mean_difference,
    paired_share_mean_difference,
    share_mean_difference,
    unit_mean_interval,
)
from confide.audit.statistics.multiple import SIGNIFICANCE, holm
from confide.audit.statistics.nulls import shuffle_coins, uniformity_p_value
from confide.audit.statistics.paired import BootstrapDifference, paired_auc_difference, paired_bootstrap
from confide.audit.statistics.proportions import (
    bound_of_none,
    clopper_pearson,
    paired_proportion_difference,
    proportion_difference,
)
from confide.audit.statistics.rank_test import rank_p_value
from confide.audit.statistics.roc import RocPoint, TprAtFpr, roc_curve, tpr_at_fpr, tpr_p_value, tpr_value
from confide.audit.statistics.sample_size import (
    RecordsNeeded,
    non_members_for_fpr,
    records_for_auc,
    shortage,
    smallest_auc,
    smallest_fpr,
    times_as_many,
)
from confide.audit.statistics.scores import Flags, Floats, Statistic
from confide.audit.statistics.selection import ChosenAttack, Halves, choose_attack, split_halves
from confide.audit.statistics.share_power import finds_half, records_for_half

__all__ = [
    "CONFIDENCE",
    "SIGNIFICANCE",
    "Alternative",
    "Auc",
    "AucInterval",
    "BootstrapDifference",
    "CanaryClientEpsilon",
    "Ceilings",
    "ChosenAttack",
    "ChosenBound",
    "Decisions",
    "Difference",
    "Flags",
    "Floats",
    "GuessPlan",
    "Guesses",
    "Halves",
    "Interval",
    "MeanControls",
    "PairedMeanDifference",
    "RecordsNeeded",
    "RocPoint",
    "Statistic",
    "TprAtFpr",
    "all_iterates_epsilon",
    "auc",
    "auc_interval",
    "auc_value",
    "bayesian_epsilon",
    "bound_of_none",
    "canary_cosines",
    "ceilings",
    "choose_attack",
    "clopper_pearson",
    "clopper_pearson_epsilon",
    "count_guesses",
    "default_plans",
    "f_dp_epsilon",
    "f_dp_mu",
    "final_model_epsilon",
    "finds_half",
    "finds_half_in_mean",
    "gaussian_epsilon",
    "gaussian_log_delta",
    "gaussian_mechanism_epsilon",
    "gaussian_mu",
    "holm",
    "mean_difference",
    "mean_interval",
    "non_members_for_fpr",
    "normal_pair_epsilon",
    "one_run_best",
    "one_run_bound",
    "one_run_epsilon",
    "one_run_p_value",
    "paired_auc_difference",
    "paired_bootstrap",
    "paired_mean_difference",
    "paired_proportion_difference",
    "paired_share_mean_difference",
    "planned_guesses",
    "proportion_difference",
    "random_directions",
    "rank_p_value",
    "records_for_auc",
    "records_for_half",
    "records_for_half_in_mean",
    "roc_curve",
    "share_mean_difference",
    "shortage",
    "shuffle_coins",
    "smallest_auc",
    "smallest_fpr",
    "split_halves",
    "threshold_bound",
    "times_as_many",
    "tpr_at_fpr",
    "tpr_p_value",
    "tpr_value",
    "two_sample_best",
    "uniformity_p_value",
    "unit_mean_interval",
]
