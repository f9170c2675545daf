"""The generated references are what the code says now."""

import re
from pathlib import Path

import yaml
from scripts import api_reference, nats_reference
from scripts.wire.table import GROUPS

from compute_common import subjects

ROOT = Path(__file__).parents[3]
CHANNELS = [channel for _, _, group in GROUPS for channel in group]


def test_the_rest_reference_is_of_today() -> None:
    assert (ROOT / "docs/api.md").read_text() == api_reference.render(), "run `make docs`"


def test_the_nats_references_are_of_today() -> None:
    assert (ROOT / "docs/nats-subjects.md").read_text() == nats_reference.markdown(), "run `make docs`"
    assert (ROOT / "docs/asyncapi.yaml").read_text() == nats_reference.asyncapi(), "run `make docs`"


def test_the_table_has_every_subject_once() -> None:
    told = [channel.subject for channel in CHANNELS]
    assert len(told) == len(set(told))
    fixed = {
        value for name, value in vars(subjects).items() if name.isupper() and value.startswith("compute.")
    }
    assert fixed <= set(told)


def test_every_verb_that_the_code_addresses_to_a_host_is_told() -> None:
    told = {channel.subject for channel in CHANNELS}
    for file in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]:
        for family, verb in re.findall(r"(gpu|vllm)_subject\(\"([a-z-]+)\"", file.read_text()):
            assert f"compute.{family}.{verb}.v1.{{node}}" in told, f"{file.name}: {family} {verb}"
        for verb in re.findall(r"node_subject\([^()]+, \"([a-z]+)\"\)", file.read_text()):
            assert f"compute.node.{{node}}.{verb}" in told, f"{file.name}: {verb}"


def test_every_reference_inside_the_asyncapi_document_leads_somewhere() -> None:
    document = yaml.safe_load(nats_reference.asyncapi())
    assert len(document["channels"]) == len(document["operations"]) == len(CHANNELS)
    references = re.findall(r"\$ref: '?#/([^'\s]+)", nats_reference.asyncapi())
    assert len(references) > 100
    for reference in set(references):
        place = document
        for step in reference.split("/"):
            place = place[step]
