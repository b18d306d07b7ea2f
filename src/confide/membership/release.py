"""Released shares of a round's summed key: what is signed, and what the encrypted share is bound to."""

from confide.errors import MessageError
from confide.membership.memberlist import MemberList
from confide.membership.roster import SIGNATURE_BYTES, Roster
from confide.membership.statements import release_statement


def statement_of_release(members: MemberList, name: str, sealed: bytes) -> bytes:
    """What a client signs when it releases its encrypted share for a list."""
    return release_statement(
        run=members.run,
        round_number=members.round_number,
        roster_digest=members.roster_digest,
        member_list_digest=members.digest,
        sender=name,
        share=sealed,
    )


def share_context(members: MemberList, name: str) -> bytes:
    """What the encrypted share that a client releases is bound to."""
    return f"confide released share {members.digest} {name}".encode()


def check_release(roster: Roster, members: MemberList, name: str, body: bytes) -> None:
    """Checks that a client released for this list; anybody can.

    Args:
        roster: of the federation.
        members: the list.
        name: of who released.
        body: signature and encrypted share.

    Raises:
        MessageError: the signature is not that client's under this list.
    """
    if len(body) < SIGNATURE_BYTES:
        raise MessageError(f"client {name} released {len(body)} bytes, fewer than a signature has")
    roster.verify(name, statement_of_release(members, name, body[SIGNATURE_BYTES:]), body[:SIGNATURE_BYTES])
