"""What follows from a request alone."""

from compute_common.ids import is_identifier
from compute_common.schemas.vllm import DeployRequest
from tests.unit.vllm_orchestrator.shapes import known
from vllm_orchestrator.instances.record import default_name, request_of, served_names


def test_default_names() -> None:
    assert default_name("meta-llama/Llama-3-70B", ()) == "llama-3-70b"
    assert default_name("a/B c", {"b-c", "b-c-2"}) == "b-c-3"
    assert is_identifier(default_name("x" * 250, ()))
    assert default_name("org/events", ()) == "instance"


def test_served_names_are_unique_and_begin_with_the_instance() -> None:
    names = served_names("llama-3-70b", "meta-llama/Llama-3-70B", known("llama-3-70b"))
    assert names[0] == "llama-3-70b"
    assert len(names) == len(set(names))
    assert "Llama-3-70B" in names


def test_two_requests_are_the_same_when_the_same_thing_runs() -> None:
    one = DeployRequest(model_name="m", instance_name="a", request_id="1")
    two = DeployRequest(model_name="m", auto_start=False, request_id="2")
    assert request_of(one) == request_of(two)
    assert request_of(one) != request_of(DeployRequest(model_name="m", max_model_len=1))
