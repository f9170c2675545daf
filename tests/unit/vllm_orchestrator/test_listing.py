"""What is fetched of a model, and what a stranger's listing may not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_common.ids import is_identifier
from compute_common.problems import Problem
from vllm_orchestrator.downloads.listing import RemoteFile, check_repo, folder_of, remote_file, wanted


def names(files: list[str], quantization: str | None = None) -> list[str]:
    listed = [RemoteFile(path, 10 + number) for number, path in enumerate(files)]
    return sorted(file.path for file in wanted("o/m", listed, quantization))


def test_safetensors_and_what_is_beside_them() -> None:
    here = ["config.json", "tokenizer.model", "chat_template.jinja", "model-00001-of-00002.safetensors"]
    here += ["model-00002-of-00002.safetensors", "1_Pooling/config.json"]
    others = ["pytorch_model.bin", "original/params.json", "onnx/config.json", "consolidated.safetensors"]
    others += ["modeling_x.py", "README.rst", "tf_model.h5", "x.gguf"]
    assert names([*here, *others]) == sorted(here)


def test_one_quantisation_with_all_its_shards() -> None:
    files = ["m-Q8_0.gguf", "m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "mmproj-f16.gguf"]
    files += ["m-Q4_K_S.gguf", "config.json"]
    assert names(files) == ["config.json", *files[1:3]]
    assert names(files, "q8_0") == ["config.json", "m-Q8_0.gguf"]
    assert names(["a-IQ2_XS.gguf", "a-IQ3_M.gguf"]) == ["a-IQ2_XS.gguf"]
    with pytest.raises(
        Problem, match=r"has no Q6_K file; it has m-q4_k_m\.gguf, m-q4_k_s\.gguf, m-q8_0\.gguf"
    ):
        names(files, "Q6_K")


@given(
    st.text(max_size=40) | st.sampled_from(["../x", "a/../../x", "/etc/passwd", "a//b", "a\\b", "a\x00", ""])
)
def test_no_name_escapes(path: str) -> None:
    try:
        file = remote_file(path, 1)
    except Problem:
        return  # any other exception would be a defect
    parts = file.path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert not file.path.startswith("/")
    assert file.path.isprintable()
    assert "\\" not in file.path


@pytest.mark.parametrize("size", [-1, 1 << 50, "7", None, True, 1.5])
def test_no_size_is_believed_blindly(size: object) -> None:
    with pytest.raises(Problem, match="bytes"):
        remote_file("model.safetensors", size)


@given(st.from_regex(r"[A-Za-z0-9._/ -]{1,140}", fullmatch=True))
def test_an_id_of_the_hub_is_one_folder_of_its_own(name: str) -> None:
    try:
        check_repo(name)
    except Problem:
        return
    assert is_identifier(folder_of(name))
    assert folder_of(name).replace("--", "/") == name
