"""Two servers that count together in Redis: one limit, exactly; and nobody is let in when Redis has gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.access.redis_server import running_redis
from tests.cli.process import serving


def test_two_servers_share_a_limit_and_refuse_without_redis(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder) as redis:
        shared = ("--limits-storage", redis.url, "--rate-limit", "20/hour")
        with serving(tmp_path / "a", *shared) as one, serving(tmp_path / "b", *shared) as other:
            urls = [one.url, other.url] * 30

            def ask(url: str) -> int:
                return httpx2.get(f"{url}/models", timeout=60).status_code

            with ThreadPoolExecutor(16) as pool:
                statuses = sorted(pool.map(ask, urls))
            assert statuses == [200] * 20 + [429] * 40
            redis.stop()
            gone = httpx2.get(f"{one.url}/models", timeout=60)
            assert (gone.status_code, gone.json()["error"]["code"]) == (503, "limits_unavailable")
            assert gone.headers["retry-after"]
            assert httpx2.get(f"{one.url}/livez", timeout=60).status_code == 200
            assert httpx2.get(f"{one.url}/readyz", timeout=60).status_code == 503
