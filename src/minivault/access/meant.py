"""Which API key is meant by a word: its id, its name, or the id of one that is gone and that records still name.

Knows nothing of records: whether they name an id is asked of whoever reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minivault.access.key_file import ApiKey
from minivault.errors import InvalidRequest


def key_id_of(word: str, keys: Iterable[ApiKey], on_record: Callable[[str], bool]) -> str:
    """The id of the key that ``word`` means.

    ``keys``: those of which the one who asks may know; ``on_record``: whether a record that they may see names an id.
    What either leaves out is refused as what does not exist is.

    Raises:
        InvalidRequest: no key is meant, or several that were revoked; ``param`` is ``key``.
    """
    known = list(keys)
    named = [key for key in known if key.name == word]
    found = next((key for key in known if key.id == word), None)
    # At most one of a name is not revoked.
    found = found or next((key for key in named if key.revoked_at is None), None)
    if found is None and len(named) > 1:
        raise InvalidRequest("key: several keys of this name were revoked: give the id of one", param="key")
    if found is not None or named:
        return (found or named[0]).id
    if on_record(word):
        return word
    raise InvalidRequest("key: must be the id or the name of a key, or an id that a record names", param="key")
