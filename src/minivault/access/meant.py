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
        InvalidRequest: no key is meant, or several that had this name one after the other and that records name: who
            erases what was said with a name must not be left in doubt whose. ``param`` is ``key``.
    """
    known = list(keys)
    named = [key for key in known if key.name == word]
    if any(key.id == word for key in known):
        return word
    told = [key for key in named if key.revoked_at is None or on_record(key.id)] or named
    if len(told) > 1:
        raise InvalidRequest("key: several keys have had this name: give the id of one", param="key")
    if told:
        return told[0].id
    if on_record(word):
        return word
    raise InvalidRequest("key: must be the id or the name of a key, or an id that a record names", param="key")
