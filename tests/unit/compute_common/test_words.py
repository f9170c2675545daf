"""Enumerations, identifiers, subjects and times."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from compute_common.enums import NodeStatus, Strategy, Tier
from compute_common.ids import Identifier, is_identifier, slug
from compute_common.subjects import gpu_subject, node_subject, token, untoken
from compute_common.times import UtcTime
from compute_common.units import label_to_mib


@pytest.mark.parametrize(
    ("said", "meant"),
    [("gpu_peer", Tier.GPU_PEER), ("Worker_Hub", Tier.GPU_PEER), ("cpu_peer", Tier.CPU_ONLY),
     ("edge", Tier.CPU_ONLY), ("disaster", Tier.CPU_ONLY), ("ai_factory", Tier.AI_FACTORY)],
)  # fmt: skip
def test_tier_words(said: str, meant: Tier) -> None:
    assert Tier(said) is meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [("none", Strategy.SINGLE_GPU), ("TP", Strategy.TENSOR_PARALLEL), ("pp", Strategy.PIPELINE_PARALLEL),
     ("hybrid", Strategy.HYBRID_TP_PP), ("hybrid_tp_pp", Strategy.HYBRID_TP_PP)],
)  # fmt: skip
def test_strategy_words(said: str, meant: Strategy) -> None:
    assert Strategy(said) is meant


def test_tiers_are_ordered() -> None:
    ranks = [tier.rank for tier in (Tier.CPU_ONLY, Tier.GPU_INFRA, Tier.GPU_PEER, Tier.AI_FACTORY)]
    assert ranks == [0, 1, 2, 3]


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="sleeping"):
        NodeStatus("sleeping")


class _Record(BaseModel):
    id: Identifier
    at: UtcTime = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.text(max_size=200))
def test_identifier_rule_is_one_rule(text: str) -> None:
    try:
        accepted = _Record(id=text).id == text
    except ValidationError:
        accepted = False
    assert accepted == is_identifier(text)


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,40}\Z"))
def test_tokens_are_one_token_and_reversible(identifier: str) -> None:
    if is_identifier(identifier):
        assert "." not in token(identifier)
        assert untoken(token(identifier)) == identifier


def test_dotted_host_names_in_subjects() -> None:
    assert gpu_subject("reserve", "box.lan") == "compute.gpu.reserve.v1.box=2Elan"
    assert node_subject("box.lan", "assigned") == "compute.node.box=2Elan.assigned"
    with pytest.raises(ValueError, match="letters"):
        token("a b")


@pytest.mark.parametrize(
    ("text", "identifier"),
    [("My Box!", "My-Box"), ("../x", "x"), ("", "node"), ("...", "node"), ("query", "node")],
)
def test_slug(text: str, identifier: str) -> None:
    assert slug(text) == identifier


@pytest.mark.parametrize(
    "sent",
    [
        datetime(2026, 11, 23, 12, 0),  # noqa: DTZ001 - naive on purpose
        datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
        datetime(2026, 11, 23, 14, 0, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_times_are_utc_outbound(sent: datetime) -> None:
    assert '"at":"2026-11-23T12:00:00Z"' in _Record(id="x", at=sent).model_dump_json()


def test_a_24_gb_label_is_met_by_a_4090() -> None:
    assert label_to_mib(24) <= 24_564 < label_to_mib(32)
