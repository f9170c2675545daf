"""Which nodes match a filter, and which of them are best."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice

from compute_common.schemas.node import NodeQuery
from compute_common.units import label_to_mib
from node_registry.rows import Row, speed

Test = Callable[[Row], bool]


def select(ranked: Iterable[Row], query: NodeQuery) -> list[Row]:
    """Matching nodes of `ranked` (best first), as many as the query's limit.

    Among equally free nodes those come first that were measured fastest with the model asked for.
    """
    found = matching(ranked, query)
    if query.model is None:
        return list(islice(found, query.limit))
    return _fastest_first(found, query.model.lower(), query.limit)


def matching(rows: Iterable[Row], query: NodeQuery) -> Iterator[Row]:
    """The rows that meet every part of the filter, in their order."""
    tests = [*_status_tests(query), *_gpu_tests(query), *_host_tests(query), *_work_tests(query)]
    for row in rows:
        for test in tests:
            if not test(row):
                break
        else:
            yield row


def takes(row: Row, work_type: str) -> bool:
    """A node that names work types takes only those; a managed one that names none takes nothing."""
    types = row.profile.work_types
    return not row.profile.managed if types is None else work_type in types


def _fastest_first(found: Iterable[Row], model: str, limit: int | None) -> list[Row]:
    chosen: list[Row] = []
    for _rank, equals in groupby(found, key=lambda row: row.rank[:4]):
        chosen += sorted(equals, key=lambda row: (-speed(row.record, model), row.node_id))
        if limit is not None and len(chosen) >= limit:
            return chosen[:limit]
    return chosen


def _status_tests(query: NodeQuery) -> Iterator[Test]:
    if (status := query.status) is not None:
        yield lambda row: row.status is status
        return
    if query.online_only:
        yield lambda row: row.record.online
    if not query.include_draining:
        yield lambda row: not row.is_draining


def _gpu_tests(query: NodeQuery) -> Iterator[Test]:
    least = max(query.min_gpu_count or 0, int(query.requires_gpu))
    if least:
        yield lambda row: row.profile.gpu_count >= least
    if query.min_vram_gb is not None:
        largest_mb = label_to_mib(query.min_vram_gb)
        yield lambda row: row.profile.largest_vram_mb >= largest_mb
    if query.min_total_vram_gb is not None:
        total_mb = label_to_mib(query.min_total_vram_gb)
        yield lambda row: row.profile.vram_mb >= total_mb


def _host_tests(query: NodeQuery) -> Iterator[Test]:
    if (tier := query.tier) is not None:
        yield lambda row: row.profile.tier is tier
    if query.min_tier is not None:
        rank = query.min_tier.rank
        yield lambda row: row.profile.tier.rank >= rank
    if (cores := query.min_cpu) is not None:
        yield lambda row: row.profile.cores >= cores
    if (ram_mb := query.min_ram_mb) is not None:
        yield lambda row: row.profile.ram_mb >= ram_mb
    if (platform := query.platform) is not None:
        yield lambda row: row.profile.platform is platform
    for item in (query.labels or {}).items():
        yield lambda row, item=item: item in row.profile.labels.items()  # type: ignore[misc]


def _work_tests(query: NodeQuery) -> Iterator[Test]:
    if query.model is not None:
        model = query.model.lower()
        yield lambda row: model in row.profile.models
    if query.work_type is not None:
        work_type = query.work_type.lower()
        yield lambda row: takes(row, work_type)
