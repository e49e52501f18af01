"""Redis as Debian ships it: with Sentinel, and alone; what it promises, and what it does not."""

from targets.redis.client import RedisClient
from targets.redis.target import Redis, RedisCompose, RedisSentinel

__all__ = ["Redis", "RedisClient", "RedisCompose", "RedisSentinel"]
