"""Checks of a deployment's folders as they lie on the disk: there, whole, of the right kind, and closed to others."""

import os
import shlex
import stat
from pathlib import Path

from confide.deploy.folder_settings import NODE_FILE, SERVER_FILE
from confide.errors import DeployFolderError, KeyFileError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_is_party(path: Path) -> None:
    """Checks that a folder is a server's or a member's, whatever state it is in.

    Raises:
        DeployFolderError: it is neither.
    """
    if not any((path / marker).is_file() for marker in (SERVER_FILE, NODE_FILE)):
        raise DeployFolderError(
            f"{path} is neither a server's folder nor a member's: there is no {SERVER_FILE} and no {NODE_FILE} in it"
        )


def existing_folder(path: Path, marker: str, *, other: str, command: str) -> Path:
    """Gives the absolute path of a folder that is there, of the right kind and closed to others.

    Args:
        path: of the folder.
        marker: the file that such a folder has.
        other: the file that the other kind of folder has.
        command: that makes such a folder, for the message.

    Raises:
        DeployFolderError: it is not.
    """
    folder = path.absolute()
    if not folder.is_dir():
        raise DeployFolderError(f"there is no folder {path}. Make one with: {command}")
    if not (folder / marker).is_file():
        kinds = {SERVER_FILE: "a server's folder", NODE_FILE: "a member's folder"}
        found = f"it is {kinds[other]} ({other})" if (folder / other).is_file() else f"it has no {marker}"
        raise DeployFolderError(f"{path} is not {kinds[marker]}: {found}. Make one with: {command}")
    if folder.stat().st_mode & _OTHERS:
        raise DeployFolderError(
            f"{path} is open to others (mode {stat.S_IMODE(folder.stat().st_mode):04o}). "
            f"Close it with: chmod 700 {path}; if others could have read the keys in it, make a new one."
        )
    return folder


def require_files(*paths: Path) -> None:
    """Checks that all parts of one folder are there.

    Raises:
        DeployFolderError: some are not.
    """
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise DeployFolderError(
            f"{paths[0].parent} lacks {', '.join(missing)}: put back what was there, or make a new folder"
        )


def require_folder(path: Path, held: str) -> None:
    """Checks that a folder is there which no backup has.

    Args:
        path: of the folder.
        held: a sentence on what was in it and what follows from that.

    Raises:
        DeployFolderError: it is not; how it is made anew is told.
    """
    if not path.is_dir():
        raise DeployFolderError(
            f"{path.parent} lacks the folder {path.name}: make it anew with "
            f"mkdir -m 700 {shlex.quote(str(path))}. {held}"
        )


def refuse_open(*paths: Path) -> None:
    """Checks that no other user can read or write a file or a folder.

    Raises:
        KeyFileError: one can.
    """
    for path in paths:
        mode = os.stat(path).st_mode  # noqa: PTH116  follows a link to where the content is
        if mode & _OTHERS:
            right = "700" if stat.S_ISDIR(mode) else "600"
            raise KeyFileError(
                f"{path} can be read or written by others (mode {stat.S_IMODE(mode):04o}). "
                f"Close it with: chmod {right} {path}; if others could have read it, make new keys."
            )


def required_roster(path: Path, advice: str) -> Path:
    """Gives the path of a roster that is there.

    Raises:
        DeployFolderError: it is not; the advice is told.
    """
    if not path.exists():
        raise DeployFolderError(f"there is no roster {path}: {advice}")
    return path
