"""The streams and buckets of the suite, defined once; whoever needs one makes sure that it is there."""

import nats.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.errors import Error as JetStreamError
from nats.js.kv import KeyValue
from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from compute_common import subjects

log = structlog.get_logger("jetstream")

WORK_STREAM = "COMPUTE_WORK"
NODES_BUCKET = "COMPUTE_NODES"
DRAINS_BUCKET = "COMPUTE_DRAINS"
INSTANCES_BUCKET = "COMPUTE_INSTANCES"
SNAPSHOTS_BUCKET = "COMPUTE_WORK_SNAPSHOTS"  # of the object store
RESULTS_BUCKET = "COMPUTE_WORK_RESULTS"  # of the object store

WORK_SUBJECTS = (
    subjects.WORK_SUBMIT,
    subjects.WORK_REQUEST,
    subjects.WORK_ASSIGNED,
    subjects.WORK_COMPLETED,
    subjects.WORK_FAILED,
    subjects.WORK_PROGRESS,
    subjects.WORK_CANCELLED,
    subjects.WORK_RETRIED,
    subjects.WORK_DECIDED,
    "compute.node.*.assigned",
    "compute.node.*.completed",
    "compute.node.*.failed",
    "compute.node.*.progress",
)


def work_stream(replicas: int = 1) -> StreamConfig:
    """The work log.

    Never `compute.>`: a stream that captures a request subject answers it first.
    No size limit of its own: the server refuses `discard: new` beside schedules, and `discard: old` would
    drop live work; at the server's `max_file_store` a publish is refused and nothing is dropped.
    """
    return StreamConfig(
        name=WORK_STREAM,
        description="every event of every work item, in order: the truth of the queue",
        subjects=list(WORK_SUBJECTS),
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        num_replicas=replicas,
        max_msg_size=-1,
        duplicate_window=120,
        allow_direct=True,
        allow_msg_ttl=True,
        allow_msg_schedules=True,
    )


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Create the stream, or bring an older definition up to date."""
    try:
        await js.stream_info(str(config.name))
    except NotFoundError:
        await js.add_stream(config)
    else:
        await js.update_stream(config)


class CopySettings(BaseSettings):
    """Every program of the suite reads it: whoever comes first makes a bucket."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    work_stream_replicas: int = Field(
        1,
        ge=1,
        le=5,
        validation_alias=AliasChoices("WORK_STREAM_REPLICAS"),
        description="Copies of the work log and every bucket in a NATS cluster; the same for all programs",
    )


async def ensure_bucket(js: JetStreamContext, bucket: str, ttl_seconds: float | None = None) -> KeyValue:
    """The key-value bucket with as many copies as `WORK_STREAM_REPLICAS` says, made when it is not there yet.

    `ttl_seconds`: how long its values live, from when it is made.
    """
    replicas = CopySettings().work_stream_replicas
    try:
        found = await js.key_value(bucket)
    except (BucketNotFoundError, NotFoundError):
        config = KeyValueConfig(
            bucket=bucket,
            history=1,
            ttl=ttl_seconds,
            replicas=replicas,
            storage=StorageType.FILE,
            direct=True,
        )
        return await js.create_key_value(config)
    if replicas > 1:
        await _raise_copies(js, f"KV_{bucket}", replicas)
    return found


async def _raise_copies(js: JetStreamContext, stream: str, replicas: int) -> None:
    """Give an older bucket the copies that it lacks; where that cannot be, it goes on with those it has."""
    try:
        config = (await js.stream_info(stream)).config
        if (config.num_replicas or 1) < replicas:
            config.num_replicas = replicas
            await js.update_stream(config)
            log.info("copies added", stream=stream, replicas=replicas)
    except (nats.errors.Error, JetStreamError) as error:
        log.warning("no copies could be added", stream=stream, reason=str(error)[:200])
