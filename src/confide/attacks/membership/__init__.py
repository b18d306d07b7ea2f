"""Membership inference on models: from what they say of each token, was this record trained on?"""

from confide.attacks.membership.registry import MEMBERSHIP_ATTACKS, MembershipAttack
from confide.attacks.membership.seen import Seen, Shadows

__all__ = ["MEMBERSHIP_ATTACKS", "MembershipAttack", "Seen", "Shadows"]
