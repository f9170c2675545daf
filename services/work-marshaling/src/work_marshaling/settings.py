"""The settings of work-marshaling, from the contract's environment names."""

from pydantic import Field

from compute_common.settings import env
from compute_common.shell import ServiceSettings
from work_marshaling.blacklist import BlacklistRule
from work_marshaling.kept import Limits
from work_marshaling.leases import LeaseRule, RetryRule


class Settings(ServiceSettings):
    work_retry_max: int = Field(
        3,
        ge=0,
        le=100,
        validation_alias=env("WORK_RETRY_MAX"),
        description="Retries of an item that names no max_retries",
    )
    work_retry_delay: float = Field(
        5.0,
        ge=0,
        le=3600,
        validation_alias=env("WORK_RETRY_DELAY"),
        description="Seconds before the first retry; doubles, with jitter",
    )
    work_default_slots: int = Field(
        1,
        ge=1,
        le=10_000,
        validation_alias=env("WORK_DEFAULT_SLOTS"),
        description="Items at a time for a node that names no slots",
    )
    work_retention_hours: float = Field(
        24.0,
        gt=0,
        le=8760,
        validation_alias=env("WORK_RETENTION_HOURS"),
        description="How long ended items stay readable",
    )
    work_max_final: int = Field(
        1_000_000,
        ge=1,
        validation_alias=env("WORK_MAX_FINAL"),
        description="At most so many ended items are kept",
    )
    work_max_pending: int = Field(
        1_000_000, ge=1, validation_alias=env("WORK_MAX_PENDING"), description="Beyond it a submit is 429"
    )
    work_silence_seconds: float = Field(
        20.0,
        gt=0,
        validation_alias=env("WORK_SILENCE_SECONDS"),
        description="How long a holder that has sent progress may then be silent",
    )
    work_ageing_seconds: float = Field(
        300.0,
        ge=0,
        validation_alias=env("WORK_AGEING_SECONDS"),
        description="One priority step is worth this much waiting, so that nothing starves",
    )
    work_blacklist_failures: int = Field(
        3,
        ge=1,
        validation_alias=env("WORK_BLACKLIST_FAILURES"),
        description="Failures within the window that set a node aside",
    )
    work_blacklist_window_seconds: float = Field(
        300.0,
        gt=0,
        validation_alias=env("WORK_BLACKLIST_WINDOW_SECONDS"),
        description="The window of those failures",
    )
    work_blacklist_seconds: float = Field(
        60.0,
        gt=0,
        validation_alias=env("WORK_BLACKLIST_SECONDS"),
        description="First cool-down; doubles each time",
    )
    work_max_payload_bytes: int = Field(
        (1 << 20) - (32 << 10),
        ge=1024,
        validation_alias=env("WORK_MAX_PAYLOAD_BYTES"),
        description="The server's max_payload less 32 KiB; a larger submission is refused",
    )
    work_stream_replicas: int = Field(
        1,
        ge=1,
        le=5,
        validation_alias=env("WORK_STREAM_REPLICAS"),
        description="Copies of the work log and every bucket in a NATS cluster; the same for all programs",
    )
    work_purge_seconds: float = Field(
        30.0,
        gt=0,
        validation_alias=env("WORK_PURGE_SECONDS"),
        description="How often the log is cut behind the oldest kept item",
    )
    work_snapshot_records: int = Field(
        10_000,
        ge=1,
        validation_alias=env("WORK_SNAPSHOT_RECORDS"),
        description="At least so many records between two snapshots; a restart replays little more",
    )
    work_move_records: int = Field(
        50_000,
        ge=1,
        validation_alias=env("WORK_MOVE_RECORDS"),
        description="Half a log at least so long is not kept for a few old live items: they are said again",
    )
    work_poison_nodes: int = Field(
        3,
        ge=1,
        le=100,
        validation_alias=env("WORK_POISON_NODES"),
        description="An item that failed on so many nodes is to blame itself and is set aside",
    )
    work_nodes_refresh_seconds: float = Field(
        5.0,
        gt=0,
        validation_alias=env("WORK_NODES_REFRESH_SECONDS"),
        description="How often the node table is asked for anew",
    )

    def limits(self) -> Limits:
        return Limits(
            max_body_bytes=self.work_max_payload_bytes,
            retention_seconds=self.work_retention_hours * 3600,
            max_final=self.work_max_final,
            blacklist=BlacklistRule(
                self.work_blacklist_failures, self.work_blacklist_window_seconds, self.work_blacklist_seconds
            ),
        )

    def retry_rule(self) -> RetryRule:
        return RetryRule(self.work_retry_max, self.work_retry_delay, poison_nodes=self.work_poison_nodes)

    def lease_rule(self) -> LeaseRule:
        return LeaseRule(self.work_silence_seconds)
