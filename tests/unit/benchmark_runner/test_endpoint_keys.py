"""Keys of endpoints: each for one base URL, and none in an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmark_runner.endpoint_keys import named_for, parse
from benchmark_runner.settings import Settings

KEY = "sk-not-to-be-seen"


@pytest.mark.parametrize(
    "url",
    ["https://llm.example", "https://LLM.example:443/", "https://llm.example/v1", "https://llm.example/v1/"],
)
def test_one_url_however_it_is_spelt(url: str) -> None:
    assert named_for(parse(f"{url}={KEY}"), "https://llm.example/v1") == KEY


@pytest.mark.parametrize(
    "other",
    [
        "http://llm.example/v1",
        "https://llm.example:8443/v1",
        "https://llm.example.org/v1",
        "https://not-llm.example/v1",
        "https://llm.example/team/v1",
        "https://llm.example/../v1",
        "https://llm.example@elsewhere.example/v1",
        "https://llm.example:port/v1",
    ],
)
def test_no_other_url_gets_it(other: str) -> None:
    assert named_for(parse(f"https://llm.example={KEY}"), other) is None


def test_several_and_what_a_key_may_hold() -> None:
    keys = parse(f" http://127.0.0.1:3000/openai = {KEY}== ,https://[::1]:9/v1=b=c,, ")
    assert named_for(keys, "http://127.0.0.1:3000/openai/v1") == f"{KEY}=="
    assert named_for(keys, "https://[::1]:9/v1") == "b=c"
    assert parse(" , ") == {}


@pytest.mark.parametrize(
    "wrong",
    [
        KEY,
        f"llm.example={KEY}",
        f"ftp://llm.example={KEY}",
        f"https://me:{KEY}@llm.example=x",
        f"https://llm.example?q={KEY}",
        f"https://llm.example={KEY} {KEY}",
        f"https://llm.example={KEY}\nX-Admin:1",
        f"https://llm.example={KEY}é",
        "https://llm.example=",
        "https://llm.example=" + KEY * 1000,
        f"https://llm.example=x,https://llm.example/v1={KEY}",
    ],
)
def test_what_is_no_entry_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(ValidationError, match="BENCHMARK_ENDPOINT_KEYS") as refused:
        Settings.model_validate({"BENCHMARK_ENDPOINT_KEYS": wrong})
    assert "entry" in str(refused.value)
    assert KEY not in str(refused.value)


@given(st.text(max_size=60))
def test_nothing_but_a_value_error(text: str) -> None:
    try:
        keys = parse(text)
    except ValueError:
        return
    assert all(key.isascii() and key.isprintable() and " " not in key for key in keys.values())


def test_the_settings_do_not_show_them() -> None:
    settings = Settings.model_validate({"BENCHMARK_ENDPOINT_KEYS": f"https://llm.example={KEY}"})
    assert settings.key_for("https://llm.example/v1") == KEY
    assert KEY not in repr(settings)
    assert KEY not in settings.model_dump_json()
