"""Which nodes match a filter, and which of them are best."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from compute_common.enums import NodeStatus
from compute_common.schemas.node import NodeQuery
from compute_common.units import label_to_mib
from node_registry.facets import Facets
from node_registry.rows import Row, speed
from node_registry.table import NodeTable

FEW = 8  # below an eighth of all nodes, sorting the members of the right kinds beats reading the ranking
MOST_REMEMBERED = 256
_NOT_OF_KINDS = {"status", "online_only", "include_draining", "limit", "cursor", "query_id"}
Test = Callable[[Facets], bool]


def select(table: NodeTable, query: NodeQuery) -> Iterator[Row]:
    """Matching nodes, best first; the caller stops at the query's limit.

    Among equally free nodes those come first that were measured fastest with the model asked for.
    """
    kinds = matching_kinds(table, query)
    if table.kinds.size(kinds) * FEW < len(table):
        rows = [table.rows_by_id[node_id] for node_id in table.kinds.members(kinds)]
        ranked: Iterable[Row] = sorted(rows, key=lambda row: row.rank)
    else:
        ranked = (row for row in table.ranked() if row.kind in kinds)
    found = (row for row in ranked if in_state(row, query))
    return found if query.model is None else _fastest_first(found, query.model.lower())


def matching_kinds(table: NodeTable, query: NodeQuery) -> frozenset[int]:
    """The kinds of nodes that meet what the filter asks of hardware and work."""
    answered, asked = table.kinds.answered, query.model_dump_json(exclude=_NOT_OF_KINDS)
    if asked not in answered:
        if len(answered) >= MOST_REMEMBERED:
            answered.clear()
        tests = [*_gpu_tests(query), *_host_tests(query), *_work_tests(query)]
        answered[asked] = frozenset(
            number for number, facets in table.kinds if all(test(facets) for test in tests)
        )
    return answered[asked]


def in_state(row: Row, query: NodeQuery) -> bool:
    """Whether the node's state is one the filter asks for."""
    if query.status is not None:
        return row.status is query.status
    if query.online_only and row.status is NodeStatus.OFFLINE:
        return False
    return query.include_draining or not row.is_draining


def takes(facets: Facets, work_type: str) -> bool:
    """A node that names work types takes only those; a managed one that names none takes nothing."""
    return not facets.managed if facets.work_types is None else work_type in facets.work_types


def _fastest_first(found: Iterable[Row], model: str) -> Iterator[Row]:
    for _rank, equals in groupby(found, key=lambda row: row.rank[:4]):
        yield from sorted(equals, key=lambda row: (-speed(row.record, model), row.node_id))


def _gpu_tests(query: NodeQuery) -> Iterator[Test]:
    least = max(query.min_gpu_count or 0, int(query.requires_gpu))
    if least:
        yield lambda facets: facets.gpu_count >= least
    if query.min_vram_gb is not None:
        largest_mb = label_to_mib(query.min_vram_gb)
        yield lambda facets: facets.largest_vram_mb >= largest_mb
    if query.min_total_vram_gb is not None:
        total_mb = label_to_mib(query.min_total_vram_gb)
        yield lambda facets: facets.vram_mb >= total_mb


def _host_tests(query: NodeQuery) -> Iterator[Test]:
    if (tier := query.tier) is not None:
        yield lambda facets: facets.tier is tier
    if query.min_tier is not None:
        rank = query.min_tier.rank
        yield lambda facets: facets.tier.rank >= rank
    if (cores := query.min_cpu) is not None:
        yield lambda facets: facets.cores >= cores
    if (ram_mb := query.min_ram_mb) is not None:
        yield lambda facets: facets.ram_mb >= ram_mb
    if (platform := query.platform) is not None:
        yield lambda facets: facets.platform is platform
    if query.labels:
        labels = frozenset(query.labels.items())
        yield lambda facets: labels <= facets.labels


def _work_tests(query: NodeQuery) -> Iterator[Test]:
    if query.model is not None:
        model = query.model.lower()
        yield lambda facets: model in facets.models
    if query.work_type is not None:
        work_type = query.work_type.lower()
        yield lambda facets: takes(facets, work_type)
