"""What Prometheus sees of NATS: this program's connection, and the streams that the service owns."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import StreamInfo
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.tasks import end_tasks, every

LOOK_SECONDS = 5.0
FAILURES = (nats.errors.Error, JetStreamError, Problem, OSError, TimeoutError)
_OF_STREAM = ["service", "stream"]


class ConnectionCollector(Collector):
    """The connection's own counts, read from the client when asked."""

    def __init__(self, service: str, bus: Bus) -> None:
        self._service = service
        self._bus = bus

    def collect(self) -> Iterator[Metric]:
        client, label = self._bus.client, [self._service]
        yield _gauge("compute_nats_connected", "1 while connected to NATS", label, self._bus.connected)
        yield _gauge(
            "compute_nats_unsent_bytes",
            "Published, and still in this process's buffer",
            label,
            client.pending_data_size,
        )
        for name, text, key in (
            ("compute_nats_reconnects", "Times the connection was lost and made again", "reconnects"),
            ("compute_nats_received_messages", "Messages that arrived", "in_msgs"),
            ("compute_nats_sent_messages", "Messages that were published", "out_msgs"),
            ("compute_nats_received_bytes", "Payload bytes that arrived", "in_bytes"),
            ("compute_nats_sent_bytes", "Payload bytes that were published", "out_bytes"),
        ):
            counted = CounterMetricFamily(name, text, labels=["service"])
            counted.add_metric(label, client.stats[key])
            yield counted
        slow = CounterMetricFamily(
            "compute_nats_slow_consumers",
            "Times the client dropped messages that a handler had no time for",
            labels=["service"],
        )
        slow.add_metric(label, self._bus.slow_consumers)
        yield slow


@dataclass(frozen=True)
class Follower:
    """Who reads a stream from end to end without acknowledging: `position` is the last message it took in."""

    consumer: str
    position: Callable[[], int]


class StreamWatch(Collector):
    """The server's figures of `streams`, asked for every few seconds; none while NATS is away.

    `account`: also how much JetStream stores in all.
    """

    def __init__(
        self,
        service: str,
        bus: Bus,
        streams: Sequence[str],
        followers: Mapping[str, Follower] | None = None,
        account: bool = False,
    ) -> None:
        self._service = service
        self._bus = bus
        self._streams = streams
        self._followers = followers or {}
        self._account = account
        self._infos: dict[str, StreamInfo] = {}
        self._stored_bytes: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._bus.on_connect(self.look)
        self._task = asyncio.create_task(every(LOOK_SECONDS, self.look), name="stream figures")

    async def stop(self) -> None:
        await end_tasks([self._task])

    async def look(self) -> None:
        """Ask once. A stream that is not there yet has no figures, which is no failure."""
        found: dict[str, StreamInfo] = {}
        stored = None
        try:
            js = self._bus.jetstream()
            for stream in self._streams:
                info = await _info(js, stream)
                if info is not None:
                    found[stream] = info
            stored = (await js.account_info()).storage if self._account else None
        except FAILURES:
            found = {}
        self._infos, self._stored_bytes = found, stored

    def collect(self) -> Iterator[Metric]:
        infos = self._infos if self._bus.connected else {}
        yield self._of_streams(
            infos, "compute_jetstream_messages", "Messages in a stream", lambda info: info.state.messages
        )
        yield self._of_streams(
            infos, "compute_jetstream_stored_bytes", "Bytes of a stream", lambda info: info.state.bytes
        )
        yield self._of_streams(
            infos,
            "compute_jetstream_consumers",
            "Consumers of a stream",
            lambda info: info.state.consumer_count,
        )
        yield self._of_streams(
            infos,
            "compute_jetstream_replica_lag_messages",
            "How far the slowest copy of a stream is behind; 0 with one copy",
            _lag,
        )
        published = CounterMetricFamily(
            "compute_jetstream_published_messages",
            "Messages a stream ever took in (its last sequence)",
            labels=_OF_STREAM,
        )
        for stream, info in infos.items():
            published.add_metric([self._service, stream], info.state.last_seq)
        yield published
        if self._followers:
            yield self._of_followers(infos)
        if self._account:
            stored = GaugeMetricFamily(
                "compute_jetstream_account_stored_bytes", "All that JetStream stores", labels=["service"]
            )
            if self._stored_bytes is not None and self._bus.connected:
                stored.add_metric([self._service], self._stored_bytes)
            yield stored

    def _of_streams(
        self, infos: Mapping[str, StreamInfo], name: str, text: str, value: Callable[[StreamInfo], int]
    ) -> Metric:
        family = GaugeMetricFamily(name, text, labels=_OF_STREAM)
        for stream, info in infos.items():
            family.add_metric([self._service, stream], value(info))
        return family

    def _of_followers(self, infos: Mapping[str, StreamInfo]) -> Metric:
        behind = GaugeMetricFamily(
            "compute_jetstream_consumer_pending_messages",
            "Messages of a stream that a consumer has not taken in yet",
            labels=[*_OF_STREAM, "consumer"],
        )
        for stream, follower in self._followers.items():
            if stream in infos:
                pending = max(0, infos[stream].state.last_seq - follower.position())
                behind.add_metric([self._service, stream, follower.consumer], pending)
        return behind


async def _info(js: JetStreamContext, stream: str) -> StreamInfo | None:
    try:
        return await js.stream_info(stream)
    except NotFoundError:
        return None


def _lag(info: StreamInfo) -> int:
    replicas = info.cluster.replicas if info.cluster else None
    return max((replica.lag or 0 for replica in replicas or ()), default=0)


def _gauge(name: str, text: str, label: list[str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["service"])
    family.add_metric(label, value)
    return family
