"""M6: how much better than the base model. In federated fine-tuning everybody holds this reference."""

from confide.attacks.membership.loss import loss_ratios
from confide.attacks.membership.positions import Positions, Scores, mean_log_probs
from confide.attacks.membership.seen import Seen


def difference_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives the fall of the loss from the base to the final model, in nats per token; 0 where nothing was trained.

    Source: Wang et al. 2024, "Pandora's White-Box", reference-based loss attack with the pretrained model.
    """
    return mean_log_probs(seen.final, positions) - mean_log_probs(seen.base, positions)


def ratio_scores(seen: Seen, positions: Positions) -> Scores:
    """Gives the base model's loss over the final model's; 1 where nothing was trained.

    Losses below `MIN_LOSS` count as that, so that a record which the final model predicts perfectly ranks by how far it
    came, and one which both predict perfectly tells nothing.

    Source: Wang et al. 2024, "Pandora's White-Box", the ratio form.
    """
    return loss_ratios(mean_log_probs(seen.base, positions), mean_log_probs(seen.final, positions))
