"""Every JSON body the specification prints is understood as it stands."""

import pytest
from pydantic import BaseModel

from compute_common.enums import Tier
from compute_common.schemas.benchmark import BenchmarkRequest
from compute_common.schemas.gpu import CanFitRequest, ReserveRequest
from compute_common.schemas.node import NodeQuery
from compute_common.schemas.vllm import DeployRequest
from compute_common.schemas.work import SubmitRequest
from tests.support import specification
from tests.support.specification import Request

SCHEMAS: dict[str, type[BaseModel]] = {
    "/api/v1/nodes/query": NodeQuery,
    "/api/v1/vllm/deploy": DeployRequest,
    "/api/v1/work/submit": SubmitRequest,
    "/api/v1/gpu/reserve": ReserveRequest,
    "/api/v1/gpu/can-fit": CanFitRequest,
    "/api/v1/benchmark/run": BenchmarkRequest,
}
BODIES = [
    request
    for request in [*specification.listed_requests(), *specification.curl_requests()]
    if request.body is not None
]


def test_the_specification_prints_bodies_for_every_schema() -> None:
    assert {request.path for request in BODIES} == set(SCHEMAS)
    assert len(BODIES) == 10


@pytest.mark.parametrize("request_", BODIES, ids=lambda request: request.path)
def test_body_is_understood(request_: Request) -> None:
    assert request_.body is not None
    parsed = SCHEMAS[request_.path].model_validate(request_.body)
    dumped = parsed.model_dump(mode="json")
    for field, value in request_.body.items():
        expected = Tier(value).value if field == "min_tier" else value
        assert dumped[field] == expected
