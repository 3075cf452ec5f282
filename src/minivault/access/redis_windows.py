"""Moving windows in Redis, for several servers that count together.

(The ``limits`` library's own keep an entry for each unit, which is no way to count tokens.) Each take and each
settlement is one script, which Redis runs with nothing in between, by Redis' own clock: so it is exact however many
servers ask. Where Redis does not answer, nothing can be counted, and nobody is let in; what is to be settled waits, and
a take that was broken off is given back, whether it was made or not. Knows nothing of who is limited, or of HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from minivault.access.settlements import LATE_SECONDS, Settlement, Settlements, unseen
from minivault.access.windows import Take, Window, WindowState
from minivault.errors import ConfigError, LimitsUnavailable
from minivault.outage import Outage

PREFIX = "minivault"
CONNECTIONS = 32
TIMEOUT_SECONDS = 2.0
RETRY_SECONDS = 5.0
CLOSE_SECONDS = 3.0
"""For what is still to be settled when a server ends."""

_PROBE = Window("check", 1, 1)

logger = logging.getLogger("minivault.access")

_COMMON = """
local function amount_of(member) return tonumber(string.match(member, '^(%d+):')) end
local function whole(number) return string.format('%.0f', number) end
"""

# KEYS: of each window, its entries (a sorted set by time, in microseconds) and their sum; at last, what is there if the
# entry was given back before it came.
# ARGV: the entry's name, its amount, and of each window the limit and the span in microseconds.
_TAKE = (
    _COMMON
    + """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local name, amount = ARGV[1], tonumber(ARGV[2])
local refused, answer = 0, {0}
local windows = (#KEYS - 1) / 2
if redis.call('EXISTS', KEYS[#KEYS]) == 1 then amount = 0 end

local function forget(entries, sum, horizon)
    local old = redis.call('ZRANGEBYSCORE', entries, '-inf', whole(horizon))
    local used = tonumber(redis.call('GET', sum) or nil)
    if #old > 0 then redis.call('ZREMRANGEBYSCORE', entries, '-inf', whole(horizon)) end
    if used then
        for _, member in ipairs(old) do used = used - amount_of(member) end
    else
        used = 0
        for _, member in ipairs(redis.call('ZRANGE', entries, 0, -1)) do used = used + amount_of(member) end
    end
    return used
end

local function room_in(entries, span, missing)
    local freed, last = 0, now
    local found = redis.call('ZRANGE', entries, 0, missing > 1 and 9999 or 0, 'WITHSCORES')
    for place = 1, #found, 2 do
        freed = freed + amount_of(found[place])
        last = tonumber(found[place + 1]) + span
        if freed >= missing then break end
    end
    return math.max(0, last - now)
end

local used = {}
for place = 1, windows do
    local entries, sum = KEYS[2 * place - 1], KEYS[2 * place]
    local limit, span = tonumber(ARGV[2 * place + 1]), tonumber(ARGV[2 * place + 2])
    used[place] = forget(entries, sum, now - span)
    redis.call('SET', sum, whole(used[place]), 'PX', whole(span / 1000 + 1000))
    if refused == 0 and used[place] + amount > limit then refused = place end
end
for place = 1, windows do
    local entries, sum = KEYS[2 * place - 1], KEYS[2 * place]
    local limit, span = tonumber(ARGV[2 * place + 1]), tonumber(ARGV[2 * place + 2])
    local missing = 1
    if refused == 0 and amount > 0 then
        redis.call('ZADD', entries, whole(now), whole(amount) .. ':' .. name)
        redis.call('PEXPIRE', entries, whole(span / 1000 + 1000))
        used[place] = used[place] + amount
        redis.call('SET', sum, whole(used[place]), 'PX', whole(span / 1000 + 1000))
    elseif place == refused then
        missing = used[place] + amount - limit
    end
    answer[2 * place] = used[place]
    answer[2 * place + 1] = room_in(entries, span, missing)
end
answer[1] = refused
return answer
"""
)

# KEYS as above; ARGV: the entry's name, what it was taken as, what it came to, and, where nobody saw whether it was
# taken, for how many seconds it may still come; or else 0. To settle the same again changes nothing.
_SETTLE = (
    _COMMON
    + """
local name, amount, used = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local windows, late = (#KEYS - 1) / 2, tonumber(ARGV[4])
for place = 1, windows do
    local entries, sum = KEYS[2 * place - 1], KEYS[2 * place]
    local member = whole(amount) .. ':' .. name
    local time = redis.call('ZSCORE', entries, member)
    if time then
        redis.call('ZREM', entries, member)
        if used > 0 then redis.call('ZADD', entries, time, whole(used) .. ':' .. name) end
        if redis.call('EXISTS', sum) == 1 then redis.call('INCRBY', sum, whole(used - amount)) end
        late = 0
    end
end
if late > 0 then redis.call('SET', KEYS[#KEYS], '', 'EX', whole(late)) end
return 0
"""
)


class RedisWindows:
    """Windows in Redis. Owned by one event loop."""

    def __init__(self, uri: str, patience: float = CLOSE_SECONDS) -> None:
        """``patience``: seconds that :meth:`close` waits at most for what is still to be settled.

        Raises:
            ConfigError: Redis' client is not installed, or ``uri`` is not one of Redis.
        """
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.exceptions import RedisError
        except ImportError:
            raise ConfigError(
                "limits_storage: Redis needs its client: pip install 'minivault[redis]'", param="limits_storage"
            ) from None
        self._faults: tuple[type[BaseException], ...] = (RedisError, OSError, TimeoutError)
        try:
            pool = BlockingConnectionPool.from_url(
                uri,
                max_connections=CONNECTIONS,
                timeout=TIMEOUT_SECONDS,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
            )
        except ValueError:
            raise ConfigError("limits_storage: expected memory, or redis://HOST:PORT", param="limits_storage") from None
        self._redis: Any = Redis(connection_pool=pool)
        self._take = self._redis.register_script(_TAKE)
        self._settle = self._redis.register_script(_SETTLE)
        self._patience = patience
        self._settlements = Settlements(self._settled, self._dropped, time.monotonic)
        self._outage = Outage(logger, "limits cannot be counted, so requests are refused", "limits are counted again")

    async def take(self, windows: Sequence[Window], amount: int, entry: str) -> Take:
        arguments: list[str | int] = [entry, amount]
        for window in windows:
            arguments += [window.limit, window.seconds * 1_000_000]
        try:
            refused, *states = await self._take(keys=_keys(windows, entry), args=arguments)
        except asyncio.CancelledError:
            self._give_back(windows, amount, entry)
            raise
        except self._faults as error:
            self._give_back(windows, amount, entry)
            raise self._unavailable(error) from None
        self._outage.works()
        pairs = zip(states[::2], states[1::2], strict=True)
        told = tuple(WindowState(int(used), int(reset) / 1e6) for used, reset in pairs)
        return Take(told, int(refused) - 1 if refused else None)

    def settle(self, windows: Sequence[Window], amount: int, used: int, entry: str) -> None:
        self._settlements.add(Settlement(tuple(windows), amount, used, entry))

    def _give_back(self, windows: Sequence[Window], amount: int, entry: str) -> None:
        """Of a take that was broken off. Redis may have made it, or make it later."""
        if entry and amount:
            self._settlements.add(unseen(windows, amount, entry))

    async def _settled(self, one: Settlement) -> bool:
        arguments: list[str | int] = [one.entry, one.amount, one.used, 0 if one.seen else LATE_SECONDS]
        try:
            await self._settle(keys=_keys(one.windows, one.entry), args=arguments)
        except self._faults as error:
            self._fails(error)
            return False
        self._outage.works()
        return True

    def _dropped(self) -> None:
        self._outage.fails("too much waits to be settled, so some may stay counted until its window has passed")

    async def check(self) -> None:
        # By a take that is refused: a Redis that answers may still let nothing be written, or no script be run.
        await self.take((_PROBE,), _PROBE.limit + 1, "")

    def _unavailable(self, error: BaseException) -> LimitsUnavailable:
        self._fails(error)
        return LimitsUnavailable("Limits cannot be counted now: Redis does not answer.", retry_after=RETRY_SECONDS)

    def _fails(self, error: BaseException) -> None:
        # The kind alone: a message may hold the address, with its password.
        self._outage.fails(f"Redis does not answer ({type(error).__name__})")

    async def close(self) -> None:
        if left := await self._settlements.close(self._patience):
            logger.warning("not settled in Redis at the end, so counted until the windows have passed: %d", left)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


def _keys(windows: Sequence[Window], entry: str) -> list[str]:
    keys = [f"{PREFIX}:{{{window.key}}}:{part}" for window in windows for part in ("entries", "sum")]
    return [*keys, f"{PREFIX}:gone:{entry}"]
