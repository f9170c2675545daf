"""The one line of an invitation, and the accounts as configuration."""

import base64
import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_cli import invitation, node_accounts
from compute_cli.invitation import MARK, Invitation, read_line
from compute_cli.nats_accounts import NodeAccount, accounts_text, live
from compute_common.ids import IDENTIFIER_PATTERN, is_identifier

IDS = st.from_regex(IDENTIFIER_PATTERN[:-1] + r"\Z").filter(is_identifier)
WORDS = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z").filter(lambda word: word.strip("-_") != "")


@given(IDS, WORDS, st.integers(1, 1 << 33), st.sampled_from(["", "-----BEGIN CERTIFICATE-----\nx\n"]))
def test_a_line_says_what_was_put_in_and_needs_no_quoting(name: str, word: str, until: int, ca: str) -> None:
    invited = Invitation("nats://10.0.0.1:4222", name, word, until, ca)
    line = invited.line()
    assert read_line(f"  {line}\n") == invited
    assert shlex.quote(line) == line
    assert re.fullmatch(r"[A-Za-z0-9._-]+", line)
    assert repr(invited) == f"Invitation(nats://10.0.0.1:4222, {name})"


@given(
    st.text(max_size=200) | st.binary(max_size=200).map(lambda data: MARK + base64.b64encode(data).decode())
)
def test_anything_else_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="invit"):
        read_line(text)


@pytest.mark.parametrize(
    "change",
    [
        {"u": "http://10.0.0.1:4222"},
        {"u": "nats://user:word@10.0.0.1:4222"},
        {"u": "nats://10.0.0.1"},
        {"u": "nats://10.0.0.1:99999"},
        {"n": "../../etc"},
        {"n": "a\nNATS_URL=b"},
        {"p": 'x"}]}'},
        {"p": "a:b"},
        {"p": None},
        {"e": "soon"},
        {"e": 1e300},
    ],
)
def test_a_line_that_would_do_harm_is_refused(change: dict[str, object]) -> None:
    fields = {"u": "nats://10.0.0.1:4222", "n": "box", "p": "word", "e": 1, **change}
    coded = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")
    with pytest.raises(ValueError, match="damaged"):
        read_line(MARK + coded)


def test_what_a_machine_that_joined_keeps(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert invitation.joined(home) == {}
    invitation.store(home, Invitation("tls://h:4222", "box.1", "secret", 1, "PEM"))
    environment = invitation.joined(home)
    assert environment["NATS_URL"] == "tls://h:4222"
    assert (environment["NODE_ID"], environment["NATS_ACCOUNT"]) == ("box.1", "node")
    assert Path(environment["NATS_CREDS"]).read_text() == "box.1:secret\n"
    assert Path(environment["NATS_CA"]).read_text() == "PEM"
    assert "secret" not in "".join(environment.values())
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}
    assert invitation.forget(home)
    assert not list(home.iterdir())
    assert not invitation.forget(home)


@pytest.mark.parametrize("name", ["sys", "compute", "events", "a b", "a*", 'a"', "../x", ""])
def test_names_that_no_account_may_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ
        node_accounts.add(tmp_path, name)
    assert node_accounts.read(tmp_path) == []


def test_an_invitation_nobody_took_is_void_after_its_time(tmp_path: Path) -> None:
    node_accounts.add(tmp_path, "late", expires_at=1.0)
    node_accounts.add(tmp_path, "came", expires_at=9e9)
    node_accounts.add(tmp_path, "open", expires_at=9e9)
    assert [node.node_id for node in live(node_accounts.read(tmp_path), 2.0)] == ["came", "open"]
    assert not node_accounts.settle(tmp_path, frozenset({"came"}))  # "late" went when another was added
    assert {node.node_id: node.expires_at for node in node_accounts.read(tmp_path)} == {
        "came": None,
        "open": 9e9,
    }
    text = (tmp_path / node_accounts.ACCOUNTS).read_text()
    assert '"node-came" {' in text
    assert "late" not in text
    assert (tmp_path / node_accounts.ACCOUNTS).stat().st_mode & 0o777 == 0o600


def test_a_node_is_given_nothing_but_what_carries_its_id() -> None:
    nodes = [NodeAccount("box.1", "p1", 0.0), NodeAccount("box-2", "p2", 0.0)]
    text = accounts_text("s", "c", nodes)
    own = text[text.index('"node-box-2" {') :].split('"node-box=2E1" {')[0]
    assert "2E1" not in own
    subjects = re.findall(r'subject: "(compute\.[^"]+)"', own)
    assert all("box-2" in subject or subject == "compute.nodes.reannounce.v1" for subject in subjects)
    assert "$JS" not in text
    assert text.count("jetstream") == 1
