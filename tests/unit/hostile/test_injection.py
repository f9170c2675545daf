"""Names that reach a path, an argv, YAML, TOML or a subject say there what they are, and nothing else."""

import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compute_common import subjects
from compute_common.ids import check_identifier, is_identifier
from compute_common.problems import Problem
from compute_common.schemas.benchmark import BenchmarkRequest
from compute_common.schemas.vllm import DeployRequest
from compute_common.schemas.work import SubmitRequest
from tests.support.wild import TEXTS, fuzzed
from tests.unit.compute_node.test_parts import instance
from tests.unit.vllm_orchestrator.shapes import H100, host
from tests.unit.vllm_orchestrator.test_rendering import cpu_plan, planned
from vllm_orchestrator.downloads.listing import check_repo, folder_of
from vllm_orchestrator.instances.record import Record, default_name
from vllm_orchestrator.models.resolve import ModelFolder
from vllm_orchestrator.rendering.argv import Serving, engine_argv
from vllm_orchestrator.rendering.compose import compose_document
from vllm_orchestrator.tensorzero.fragment import file_name, fragment

NASTY = st.sampled_from(TEXTS) | st.text(max_size=60)
PLANS = (planned("llama-3-70b", [host("h", 8, H100)]), cpu_plan())


@fuzzed(500)
@given(NASTY)
def test_an_identifier_is_one_word_everywhere(text: str) -> None:
    if not is_identifier(text):
        with pytest.raises(ValueError, match=r"must be|reserved"):
            check_identifier(text)
        return
    assert Path(text).name == text
    assert not text.startswith("-")
    assert yaml.safe_load(yaml.safe_dump({text: text})) == {text: text}
    token = subjects.token(text)
    assert not set(token) & set(".*> \t\r\n")
    assert subjects.untoken(token) == text


@fuzzed(400)
@given(NASTY)
def test_every_id_of_a_request_is_checked(text: str) -> None:
    if is_identifier(text):
        return
    for model, fields in (
        (DeployRequest, {"model_name": "m", "instance_name": text}),
        (DeployRequest, {"model_name": "m", "node_id": text}),
        (SubmitRequest, {"work_type": "x", "work_id": text}),
        (BenchmarkRequest, {"model_name": "m", "instance_name": text}),
    ):
        with pytest.raises(ValidationError):
            model.model_validate(fields)


@fuzzed(400)
@given(NASTY)
def test_a_name_of_a_model_never_leaves_the_folder(tmp_path: Path, text: str) -> None:
    outside = tmp_path / "secret.gguf"
    outside.write_bytes(b"GGUF")
    root = tmp_path / "models"
    root.mkdir(exist_ok=True)
    (root / "link.gguf").unlink(missing_ok=True)
    (root / "link.gguf").symlink_to(outside)
    folder = ModelFolder(root)
    for path in (text, f"../{text}", f"link.gguf/{text}", str(outside), "link.gguf"):
        with pytest.raises(Problem):
            folder.resolve("unheard-of", path)
    with suppress(Problem):
        assert "/" not in folder_of(check_repo(text))
        assert ".." not in check_repo(text)


@fuzzed(300)
@given(NASTY, NASTY)
def test_names_are_single_words_of_a_command_line(served: str, model: str) -> None:
    """Whatever is served, no word turns into another flag: each name stands where a value is due."""
    with suppress(ValidationError):
        model = DeployRequest(model_name=model).model_name
        assert not model.startswith("-")
        for plan in PLANS:
            serving = Serving([default_name(model, ()), model], model, "127.0.0.1", 18_000)
            flags = flags_of(engine_argv(plan, serving))
            calm = Serving(["i", "m"], "m", "127.0.0.1", 18_000)
            assert flags == flags_of(engine_argv(plan, calm))
            assert is_identifier(default_name(served, ()))


def flags_of(argv: list[str]) -> list[str]:
    return [word for word in argv if word.startswith("-")]


@fuzzed(200)
@given(NASTY)
def test_a_compose_file_says_what_was_meant(model: str) -> None:
    """Compose itself reads `$`: written twice it is a dollar."""
    with suppress(ValidationError):
        model = DeployRequest(model_name=model).model_name
        serving = Serving(["i", model], model, "127.0.0.1", 18_000)
        for plan in PLANS:
            document = compose_document(replace(plan), "i", serving, image="img:1")
            read = yaml.safe_load(yaml.safe_dump(document))
            assert read == document
            assert list(read["services"]) == ["i"]
            words: list[Any] = read["services"]["i"]["command"]
            assert model in [str(word).replace("$$", "$") for word in words]
            for word in words:
                assert "$" not in str(word).replace("$$", "")


@fuzzed(400)
@given(NASTY, NASTY)
def test_toml_for_tensorzero_says_what_was_meant(model: str, api: str) -> None:
    name = file_name(model)
    assert Path(name).name == name
    record = Record.model_validate(
        {**instance("http://127.0.0.1:1/v1").model_dump(), "model_name": model, "instance_name": "i-1"}
    )
    record.endpoints.api = api
    with suppress(UnicodeEncodeError):
        text = fragment(model, [record])
        text.encode()
        read = tomllib.loads(text)
        assert list(read) == ["models"]
        assert list(read["models"]) == [model]
        providers = read["models"][model]["providers"]
        assert list(providers) == ["i-1"]
        assert providers["i-1"]["api_base"] == f"{api}/"
