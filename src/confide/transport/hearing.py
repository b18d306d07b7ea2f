"""What is made of a node's words, and of Flower's in its place, where they are no answer."""

import re

from confide.errors import MessageError
from confide.transport.base import MAX_ERROR_CHARACTERS, MISSING, NodeReply
from confide.transport.errand import Heard, Word

NOT_ANSWERED = "NotAnswered"
"""A node's error, where it is asked for an answer again that it does not have."""

_KIND = re.compile("[A-Za-z][A-Za-z0-9]{0,63}")

# Codes of flwr.app.Error, as Flower documents them; 3, 4 and 5 say that there is no answer and will be none.
_ERROR_NAMES = {
    1: "LoadClientAppException",
    2: "ClientAppRaisedException",
    3: MISSING,
    4: MISSING,
    5: MISSING,
    6: "ModFailedPrecondition",
    7: "InvalidFab",
    8: "ClientAppCrashed",
}
UNTRIED = frozenset({MISSING, *(_ERROR_NAMES[code] for code in (1, 2, 8))})
"""Kinds of errors that say nothing of the request: there was no answer, or the client app itself failed."""

_GONE = (3, 4, 8)  # a message is gone, which can be asked for again; 5 says that the node is away
_NOT_STARTED = (1, 2)  # the client app did not get so far as to ask the worker


def answer(reply: NodeReply) -> Heard:
    """That this is the answer, or the reason why there is none."""
    return Heard(word=Word.ANSWER, reply=reply)


def missing(node: int, why: str) -> NodeReply:
    """That no answer came."""
    return NodeReply(node=node, error_kind=MISSING, error=why)


def malformed(node: int, why: str) -> NodeReply:
    """That what came is no answer."""
    return NodeReply(node=node, error_kind=MessageError.__name__, error=why)


def flower_error(node: int, code: int, *, is_request: bool) -> Heard:
    """What Flower reports in a node's place. Its reason may quote the node's data, so it stays unread.

    Args:
        node: which.
        code: Flower's.
        is_request: whether in reply to the request; else the worker may be at work on it, or hold its answer.
    """
    kind = _ERROR_NAMES.get(code, "FlowerError")
    error = "Flower says that the node is away or its answer gone" if kind == MISSING else "the node's log says more"
    reply = NodeReply(node=node, error_kind=kind, error=f"{error} (Flower's code {code})")
    # A client app that crashed may have left its worker at work, and what that answers is kept.
    is_gone = code in _GONE or (code in _NOT_STARTED and not is_request)
    return Heard(word=Word.GONE if is_gone else Word.ANSWER, reply=reply)


def told_error(node: int, kind: object, text: object, *, is_request: bool) -> Heard:
    """What the node itself says went wrong, cut to one printable line.

    Args:
        node: which.
        kind: of its error.
        text: the reason.
        is_request: as for `flower_error`.
    """
    if not isinstance(kind, str) or not _KIND.fullmatch(kind) or not isinstance(text, str):
        return answer(malformed(node, "an error was told in a form that is not ours"))
    line = "".join(mark if mark.isprintable() else " " for mark in text[:MAX_ERROR_CHARACTERS])
    reply = NodeReply(node=node, error_kind=kind, error=line)
    if kind == NOT_ANSWERED:
        return Heard(word=Word.UNKNOWN, reply=reply)
    is_gone = kind == MISSING and not is_request  # the client app did not reach the worker
    return Heard(word=Word.GONE if is_gone else Word.ANSWER, reply=reply)
