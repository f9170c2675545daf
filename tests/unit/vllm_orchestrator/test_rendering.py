"""Plans as argv and compose."""

import yaml

from tests.unit.vllm_orchestrator.shapes import H100, RTX_4090, host, known
from vllm_orchestrator.planning.inventory import Host
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import Plan, Wish
from vllm_orchestrator.rendering.argv import Serving, engine_argv, engine_environment, known_words
from vllm_orchestrator.rendering.compose import compose_document

SERVING = Serving(["mine", "org/model"], "org/model", "127.0.0.1", 18_000)


def planned(name: str, hosts: list[Host], wish: Wish = Wish()) -> Plan:  # noqa: B008
    result = plan(Model(vllm=known(name)), hosts, wish)
    assert isinstance(result, Plan)
    return result


def cpu_plan() -> Plan:
    gguf = known("smollm2", gguf=True, weight_bytes=98_362_432, location="/m/$x.gguf")
    result = plan(Model(gguf=gguf), [Host("h", (), 9000, 9000, 2)], Wish(max_model_len=1024, max_num_seqs=2))
    assert isinstance(result, Plan)
    return result


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_vllm_argv() -> None:
    wish = Wish(kv_cache_dtype="fp8", enforce_eager=True)
    result = planned("llama-3-70b", [host("h", 8, H100)], wish)
    argv = engine_argv(result, SERVING)
    assert argv[:3] == ["vllm", "serve", "org/model"]
    assert argv[argv.index("--served-model-name") + 1 : argv.index("--host")] == ["mine", "org/model"]
    assert after(argv, "--tensor-parallel-size") == "2"
    assert after(argv, "--kv-cache-dtype") == "fp8"
    assert "--enforce-eager" in argv
    assert engine_environment(result)["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_several_hosts_have_one_head() -> None:
    result = planned("deepseek-r1", [host(name, 8, H100) for name in "ab"])
    head, second = (engine_argv(result, SERVING, rank=rank) for rank in (0, 1))
    assert after(head, "--nnodes") == after(second, "--nnodes") == "2"
    assert "--headless" not in head
    assert "--headless" in second
    assert after(head, "--master-addr") == after(second, "--master-addr")


def test_llama_argv() -> None:
    argv = engine_argv(cpu_plan(), SERVING)
    assert (after(argv, "-c"), after(argv, "-np"), after(argv, "-t")) == ("2048", "2", "2")
    assert after(argv, "--alias") == "mine,org/model"
    assert after(argv, "--device") == "none"


def test_words_an_older_binary_lacks_are_left_out() -> None:
    argv = engine_argv(cpu_plan(), SERVING)
    old = known_words(argv, frozenset({"--metrics"}))
    assert "--metrics" in old
    assert not {"--device", "none", "--offline", "--pooling", "mean"} & set(old)
    assert old[: len(old) - 1] == argv[: len(old) - 1]


def test_compose_of_a_gpu_plan_survives_yaml() -> None:
    document = compose_document(planned("phi-4", [host("h", 4, RTX_4090)]), "phi", SERVING, image="i:1")
    service = document["services"]["phi"]
    device = service["deploy"]["resources"]["reservations"]["devices"][0]
    assert device == {"driver": "nvidia", "device_ids": ["0", "1"], "capabilities": ["gpu"]}
    assert service["command"][0] == "org/model"
    assert service["shm_size"] == "16gb"
    assert yaml.safe_load(yaml.safe_dump(document)) == document


def test_compose_mounts_a_local_model_and_escapes_dollars() -> None:
    serving = Serving(["s"], "/m/$x.gguf", "127.0.0.1", 18_000)
    service = compose_document(cpu_plan(), "s", serving, image="i")["services"]["s"]
    assert service["volumes"] == ["/m/$$x.gguf:/models/$$x.gguf:ro"]
    assert service["command"][:2] == ["-m", "/models/$$x.gguf"]
    assert service["ports"] == ["127.0.0.1:18000:8000"]
    assert "environment" not in service
