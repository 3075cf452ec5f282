"""Who comes in: from what a client shows to a :class:`Caller` with its rights and its limits.

Knows nothing of HTTP: the key, if one was shown, and the address are given.
"""

from __future__ import annotations

from minivault.access.caller import Caller, network_of
from minivault.access.key_file import ApiKey
from minivault.access.keys import KeyStore
from minivault.access.limits import Limits, Quota, require_sound
from minivault.errors import Unauthorized, UnknownKey


class Gate:
    """Lets callers in. Without any key everybody is a caller; from the first one on, only who has one."""

    def __init__(
        self,
        keys: KeyStore,
        limits: Limits,
        *,
        rate_limit: str = "",
        require_keys: bool = False,
        share_prefix_cache: bool = False,
    ) -> None:
        """
        Raises:
            ConfigError: ``rate_limit`` cannot be read.
        """
        require_sound("rate_limit", rate_limit)
        self.keys = keys
        self.limits = limits
        self._rate_limit = rate_limit
        self._require_keys = require_keys
        self._share_prefix_cache = share_prefix_cache

    def asks_for_keys(self) -> bool:
        """
        Raises:
            KeysUnavailable: the keys cannot be read, so nobody may come in.
        """
        exist = self.keys.exist()  # looked at in any case: keys that cannot be read let nobody in
        return exist or self._require_keys

    def caller(self, shown: str | None, address: str) -> Caller:
        """The caller who showed this key, or none.

        Raises:
            Unauthorized: a key is needed, and this is none.
            KeysUnavailable: the keys cannot be read, so nobody may come in.
        """
        if not self.asks_for_keys():
            return Caller(address, quota=self.quota_of_address(address))
        if shown is None:
            error = Unauthorized("This server needs an API key: send it as Authorization: Bearer, or as x-api-key.")
            error.code = "missing_api_key"
            raise error
        return self._caller_of(self.keys.authenticate(shown), address)

    def caller_of_key(self, key_id: str | None, address: str) -> Caller:
        """The caller of a key that was shown before, as when work goes on later.

        Raises:
            Unauthorized: the key was revoked, has expired or is gone; or there are keys now, and there was none then.
            KeysUnavailable: the keys cannot be read.
        """
        if key_id is None:
            return self.caller(None, address)
        try:
            key = self.keys.get(key_id)
        except UnknownKey:
            raise Unauthorized("The API key is gone.") from None
        self.keys.require_active(key)
        return self._caller_of(key, address)

    def quota_of_address(self, address: str) -> Quota:
        return Quota.of(self.limits, f"address:{network_of(address)}", self._rate_limit)

    def _caller_of(self, key: ApiKey, address: str) -> Caller:
        terms = key.terms
        requests = self._rate_limit if terms.requests is None else terms.requests
        return Caller(
            address,
            api_key_id=key.id,
            role=terms.role,
            models=terms.models,
            store=terms.store,
            cache_salt=b"" if self._share_prefix_cache else key.id.encode(),
            quota=Quota.of(self.limits, f"key:{key.id}", requests, terms.tokens, terms.concurrent),
        )
