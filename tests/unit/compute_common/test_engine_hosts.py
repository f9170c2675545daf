"""Which addresses of engines may be asked."""

import ipaddress
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_common.access.engine_hosts import PRIVATE, EngineHosts, public

DEFAULT = EngineHosts.parse(PRIVATE)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:18000/v1",
        "http://localhost:11434/v1",
        "http://[::1]:18000/v1",
        "http://0.0.0.0:18000/v1",
        "http://192.168.1.20:18000/v1",
        "http://10.4.5.6:18000",
        "https://100.64.0.7:18000/v1/",
        "http://[fd12:3456::1]:18000/v1",
        "http://vllm-orchestrator:18000/v1",
        "http://compute-engine_llama-3:8000/v1",
        "http://[::ffff:10.0.0.1]:18000/v1",
    ],
)
def test_engines_of_this_network_are_asked(url: str) -> None:
    assert DEFAULT.allow(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.169.254:80/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[::ffff:a9fe:a9fe]/v1",
        "http://[64:ff9b::a9fe:a9fe]/v1",
        "http://[2002:a9fe:a9fe::]/v1",
        "http://[fe80::1]/v1",
        "http://[fe80::1%25eth0]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://100.100.100.200/v1",
        "http://2852039166/v1",  # decimal of 169.254.169.254
        "http://0xa9fea9fe/v1",
        "http://0xa9.0xfe.0xa9.0xfe/v1",
        "http://0251.0376.0251.0376/v1",
        "http://169.254.43518/v1",
        "http://2130706433/v1",  # decimal of loopback: an address has one spelling
        "http://127.1/v1",
        "http://169.254.169.254./v1",
        "http://metadata/v1",
        "http://metadata.google.internal/v1",
        "http://169.254.169.254.nip.io/v1",
        "http://evil.example/v1",
        "http://8.8.8.8/v1",
        "http://224.0.0.1/v1",
        "http://255.255.255.255/v1",
        "http://user@127.0.0.1/v1",
        "http://127.0.0.1@evil.example/v1",
        "http://127.0.0.1\\@evil.example/v1",
        "http://127.0.0.1#@evil.example/",
        "http://127.0.0.1/v1?x=1",
        "http://127.0.0.1/../../x",
        "http://127.0.0.1/v1\r\nX: y",
        "http://127.0.0.1/v1\n",
        "http://127.0.0.1\t/v1",
        "http://127.0.0.1:99999/v1",
        "http://\uff11\uff12\uff17.0.0.1/v1",
        "http://ⓛocalhost/v1",
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "gopher://127.0.0.1/v1",
        "//127.0.0.1/v1",
        "http:///v1",
        "http://[::1/v1",
        "",
        None,
    ],
)
def test_nothing_else_is(url: str | None) -> None:
    assert not DEFAULT.allow(url)


def test_what_is_listed_may_be_asked_but_never_the_clouds_own() -> None:
    listed = EngineHosts.parse("gpu.example.com, 203.0.113.7, 198.51.100.0/24, 169.254.169.254")
    assert listed.allow("http://GPU.example.com:18000/v1")
    assert listed.allow("http://203.0.113.7:18000/v1")
    assert listed.allow("http://198.51.100.9:18000/v1")
    assert not listed.allow("http://169.254.169.254/v1")
    assert not listed.allow("http://192.168.1.1/v1")  # the default is replaced


@pytest.mark.parametrize("listed", ["a b", "http://x", "10.0.0.0/33", "*.example.com", "x\ny"])
def test_a_wrong_list_is_named(listed: str) -> None:
    with pytest.raises(ValueError, match="is no name, address or network"):
        EngineHosts.parse(listed)


@given(st.text(max_size=80))
def test_no_text_makes_it_fail(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/v1", f"http://127.0.0.1{text}"):
        DEFAULT.allow(url)
        public(text)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "{:#x}", "0{:o}", "127.{}", "0x7f.{}"]))
def test_a_number_is_no_address(number: int, form: str) -> None:
    """libc would take it for one."""
    assert not DEFAULT.allow(f"http://{form.format(number)}/v1")


@given(st.ip_addresses())
def test_what_is_allowed_is_private_whoever_reads_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    url = f"http://[{address}]/v1" if address.version == 6 else f"http://{address}/v1"
    if DEFAULT.allow(url):
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        host = urlsplit(url).hostname or ""
        read = ipaddress.ip_address(socket.inet_ntop(family, socket.inet_pton(family, host)))
        read = getattr(read, "ipv4_mapped", None) or read
        assert not read.is_link_local
        assert not read.is_multicast
        assert read.is_private or read in ipaddress.ip_network("100.64.0.0/10")


@pytest.mark.parametrize(
    ("host", "is_public"),
    [
        ("huggingface.co", True),
        ("cdn-lfs.huggingface.co", True),
        ("8.8.8.8", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("metadata.google.internal", False),
        ("10.0.0.1", False),
        ("2130706433", False),
        ("127.1", False),
        ("localhost", False),
        ("::1", False),
    ],
)
def test_public_hosts(host: str, is_public: bool) -> None:
    assert public(host) is is_public
