"""From whose points of view something is attacked: the views that its configuration asks for."""

from functools import cached_property

from confide.attacks.view import View
from confide.auditor.audited import Audited


class Parties:
    """The views of one audit, made when they are first asked for.

    Args:
        audited: what is attacked.
    """

    def __init__(self, audited: Audited) -> None:
        self._audited = audited

    @cached_property
    def with_adapters(self) -> list[View]:
        """Who is asked for and has a global adapter that attacks look at."""
        wanted = self._audited.config.audit.views
        found = [self._audited.views.final()] if "final" in wanted else []
        found += [view for view in self.clients if view.name in wanted]
        if "server" in wanted and self.rounds(self.server):
            found.append(self.server)
        return found

    @cached_property
    def clients(self) -> list[View]:
        """One client alone, and several together where there are enough."""
        views, attackers = self._audited.views, self._audited.attackers
        alone = views.client(attackers.alone)
        return [alone, views.client(attackers.together)] if attackers.together else [alone]

    @cached_property
    def server(self) -> View:
        """What the server of this run sees."""
        views = self._audited.views
        return views.server() if self._audited.facts.scheme == "plain" else views.sealed_server()

    def rounds(self, view: View) -> tuple[int, ...]:
        """The rounds that attacks look at, ascending, as far as a party has them; the last one is under attack."""
        return tuple(number for number in self._audited.adapters.looked_at if number in view.adapters)
