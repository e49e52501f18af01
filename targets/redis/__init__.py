"""Redis as Debian ships it: with Sentinel, and alone; what it promises, and what it does not."""

from targets.redis.client import RedisClient, SentinelClient
from targets.redis.target import Redis, RedisCompose, RedisPrimary, RedisSentinel

__all__ = ["Redis", "RedisClient", "RedisCompose", "RedisPrimary", "RedisSentinel", "SentinelClient"]
