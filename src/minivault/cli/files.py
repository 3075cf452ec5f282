"""Files that commands read and write, and the folder for them. Knows nothing of what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from minivault.cli.console import CliError
from minivault.files import replacing

_OWN = re.compile(
    r"config\.toml|server\.url|keys\.(json|lock)|vault\.(key|pub|head|verified)|(vault|batches)\.db([.-].*)?"
)
"""What a data directory holds beside its folders."""
_MIRROR = re.compile(r"log\.jsonl(\..*)?")


def read_file(path: Path) -> str:
    """The text of a file.

    Raises:
        CliError: it cannot be read, or is not text: used wrongly, which is no verdict on what it would have held.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise CliError(f"Cannot read {path}: {error.strerror}", exit_code=2) from error
    except UnicodeDecodeError:
        raise CliError(f"{path} is not text.", exit_code=2) from None


def prepare_data_dir(path: Path) -> None:
    """Make the data directory, for its owner alone, and see that it can be written.

    Raises:
        CliError: it cannot.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(
            f"The data directory {path} cannot be made ({error.strerror}). Choose one with --data-dir."
        ) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise CliError(f"The data directory {path} cannot be written. Choose another with --data-dir.")


def require_folder(output: Path) -> None:
    """Refuse a file whose folder is not there; a name that is misspelt would otherwise become a folder.

    Raises:
        CliError: there is none; names it.
    """
    if not output.parent.is_dir():
        raise CliError(f"There is no folder {output.parent}. Make it first, or name a file elsewhere.")


def refuse_present(output: Path, overwrite: bool) -> None:
    """Refuse a file that is there already, unless it is to be written over: the one rule of all commands that write.

    Raises:
        CliError: it is there, and ``overwrite`` was not said; or it is a folder, a device, a pipe, a vault or
            a file of a data directory's own.
    """
    if not overwrite and os.path.lexists(output):
        raise CliError(f"{output} is there already; --overwrite writes over it.", exit_code=2)
    if output.exists() and not output.is_file():
        raise CliError(f"{output} is no regular file, and is not written over.", exit_code=2)
    real = output.resolve()
    # An encrypted vault cannot be told by what it holds; its lock file stays beside it.
    if real.exists() and (lock := real.with_name(f"{real.name}.lock")).exists():
        raise CliError(f"{output} is not written over: {lock.name} beside it says that it is a vault.", exit_code=2)
    if real.exists() and _is_own(real):
        raise CliError(
            f"{output} is not written over: it is a file of the vault's own, in a data directory.", exit_code=2
        )


def _is_own(real: Path) -> bool:
    """Whether a data directory keeps this file, its mirror and its models among them."""
    folder = real.parent
    if folder.name == "logs" and _MIRROR.fullmatch(real.name):
        return _is_data_dir(folder.parent)
    in_models = any(above.name == "models" and _is_data_dir(above.parent) for above in real.parents)
    return in_models or (bool(_OWN.fullmatch(real.name)) and _is_data_dir(folder))


def _is_data_dir(folder: Path) -> bool:
    return (folder / "vault.db.lock").exists()


def is_same_file(one: Path, other: Path) -> bool:
    """Whether both names lead to one file, through links too; not where there is none."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def write_file(output: Path, pieces: Iterable[str | bytes], *, public: bool = False) -> None:
    """Whole or not at all, and on the disk when it returns; a link stays, and what it leads to is replaced.

    Text is UTF-8. For the owner alone, unless ``public``: what is meant to be handed out can be read by all whom the
    umask lets.

    Raises:
        CliError: there is no such folder, or it cannot be written; whatever else ``pieces`` raise, nothing is left.
    """
    require_folder(output)
    try:
        with replacing(output.resolve(), 0o644 if public else 0o600) as file:
            file.writelines(piece.encode("utf-8") if isinstance(piece, str) else piece for piece in pieces)
    except OSError as error:
        raise CliError(f"Cannot write {output}: {error.strerror}") from error
