"""What counts as a credential, and what does not."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from blitz import redaction
from blitz.redaction import Redacting, holds_secret, redact, redact_command, redact_values, remember

SECRET = "hunter2"
ODD = "p@ss/w+rd \"it's\\ä 100%"  # all that URLs, JSON and Python spell in another way
CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables but pytest's own, which holds the test's id: no id may have a credential in it."""
    for name in os.environ.keys() - {"PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    monkeypatch.setattr(redaction, "_remembered", frozenset())


# ---- what a URL or a name gives away


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:hunter2@host:5432/db", "postgresql://***@host:5432/db"),
        ("postgresql+psycopg://me:hunt@er2@host/db", "postgresql+psycopg://***@host/db"),
        ("postgresql://me:hunter2/?#@host/db", "postgresql://***@host/db"),
        ("redis://:hunter2@host", "redis://***@host"),
        ("https://hunter2@host/a/b", "https://***@host/a/b"),
        ("see http://a:hunter2@b, http://c:hunter2@d", "see http://***@b, http://***@d"),
        ("http://host/?token=hunter2&page=2", "http://host/?token=***&page=2"),
        ("http://host/?a=1&X-Amz-Signature=ab&X-Amz-Security-Token=hunter2#top", None),
        ("https://host/c?sv=1&sig=hunter2&se=2", "https://host/c?sv=1&sig=***&se=2"),
        ("tracking.password=hunter2 seed=1", "tracking.password=*** seed=1"),
        ("+wandb.api_key='hunter2 x' seed=1", "+wandb.api_key=*** seed=1"),
        ("AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SECRET_ACCESS_KEY=***"),
        ('{"hf_token": "hunter2"}', '{"hf_token": ***}'),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("blitz --api-key hunter2 --help", "blitz --api-key *** --help"),
        ("mssql:///?odbc_connect=UID%3Da%3BPWD%3Dhunter2", "mssql:///?odbc_connect=UID%3Da%3BPWD%3D***"),
        ("AccountName=a;AccountKey=hunter2==", "AccountName=a;AccountKey=***"),
    ],
    ids=count(),
)
def test_credentials_are_taken_out(text: str, expected: str | None) -> None:
    assert not holds_secret(text)
    found = redact(text)
    assert SECRET not in found
    assert redact(found) == found
    if expected:
        assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///mlflow.db",
        "sqlite:////data/a@b/c:d/mlflow.db",
        "http://localhost:5000",
        "https://host:8443/api?page=2&order=a",
        "git@github.com:somebody/blitz",
        "blitz model=resnet18 optimizer.lr=1e-3 -m seed=0,1,2",
        "s3://bucket/run@2",
        "model.tokenizer=bpe tokenizer: bpe",
        "--- a/credentials.py",
        "the pre-token stage",
        "model=/etc/passwd: no such model (accepted: mlp, net)",
        "data.root=/srv/tokens: does not exist (accepted: a folder)",
        "token: no such command",
    ],
)
def test_the_rest_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_no_credential_in_a_command_line() -> None:
    argv = [
        "/bin/blitz",
        "model=net",
        f"tracking.uri=postgresql://me:{SECRET}@host/db",
        f"password={SECRET}&more {SECRET}",
        "--store-token",
        f"-{SECRET}",
        "--token",
        "--help",
    ]
    assert redact_command(argv) == [
        "/bin/blitz",
        "model=net",
        "tracking.uri=postgresql://***@host/db",
        "password=***",
        "--store-token",
        "***",
        "--token",
        "--help",
    ]


# ---- secrets of the environment

NAMES = [
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN",
    "WANDB_API_KEY", "KAGGLE_KEY", "AZURE_STORAGE_ACCESS_KEY", "DB_PASS", "PGPASSWORD", "MYSQL_PWD", "client_secret",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_whose_name_says_that_it_is_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "login failed for hunter2, hunter2x and xhunter2"
    assert redact(text) == text
    monkeypatch.setenv(name, SECRET)
    assert redact(text) == "login failed for ***, ***x and x***"
    assert redact_command(["--note", text])[1] == redact(text)


@pytest.mark.parametrize(
    "name",
    ["PWD", "OLDPWD", "HOME", "TOKENIZERS_CACHE", "AWS_WEB_IDENTITY_TOKEN_FILE", "HF_TOKEN_PATH", "SECRETS_DIR",
     "SSH_ASKPASS", "KEYBOARD"],
)  # fmt: skip
def test_a_variable_whose_name_does_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/not/there")
    assert redact("no such file: /not/there") == "no such file: /not/there"


@pytest.mark.parametrize("value", ["", "a", "four5", "true", "False", "disabled", "Password", "mlflow", "******"])
def test_a_value_that_is_ordinary_text(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{value}@host")
    text = "mlflow.db: true or False, disabled, a number of four5, ****** Password"
    assert redact(text) == text


def test_a_path_is_a_secret_only_if_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    assert redact(f"{tmp_path}/a") == f"{tmp_path}/a"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{tmp_path}/wJalrX")
    assert redact(f"{tmp_path}/wJalrX") == "***"


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "URL": quote,
    "part of a URL": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "lower case": lambda text: quote(text, safe="").replace("%2F", "%2f"),
    "JSON": json.dumps,
    "JSON in Unicode": lambda text: json.dumps(text, ensure_ascii=False),
    "repr": repr,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_however_it_is_spelled(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"a{SPELLINGS[spelling](ODD)}b"
    assert redact(text) == text
    monkeypatch.setenv("DB_PASSWORD", ODD)
    assert redact(text).replace('"', "").replace("'", "") == "a***b"


def test_a_key_of_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_PRIVATE_KEY", "-----BEGIN KEY-----\nMIIEow\nIBAAKC\n-----END KEY-----\n")
    assert redact("+-----BEGIN KEY-----\n+MIIEow\n+IBAAKC\n+-----END KEY-----\n+x") == "+***\n+x"
    assert redact("  -----BEGIN KEY-----\r\n  MIIEow\r\n  IBAAKC\r\n  -----END KEY-----") == "  ***"


def test_a_secret_that_is_not_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", os.fsdecode(b"hunter\xff2"))
    assert redact("at hunter%FF2!") == "at ***!"


def test_the_longer_of_two_secrets_goes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", SECRET)
    monkeypatch.setenv("B_TOKEN", SECRET + "-and-more")
    assert redact("hunter2-and-more hunter2") == "*** ***"


def test_the_environment_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "first-one")
    assert redact("first-one second-one") == "*** second-one"
    monkeypatch.setenv("HF_TOKEN", "second-one")
    assert redact("first-one second-one") == "first-one ***"
    monkeypatch.delenv("HF_TOKEN")
    assert redact("first-one second-one") == "first-one second-one"


# ---- secrets inside of URIs

WRITTEN = {
    "postgresql://me:hunter2@host/db": "hunter2",
    "postgresql+psycopg://me:hunt%40er2@host/db": "hunt@er2",
    "mysql://me:hunt/er@2@host": "hunt/er@2",
    "redis://:hunter2@host": "hunter2",
    "https://ghp_0123456789abcdef@github.com/a/b": "ghp_0123456789abcdef",
    "https://ghp_0123456789abcdef:@github.com/a/b": "ghp_0123456789abcdef",
    "postgresql://host/db?user=me&password=hunter2&sslmode=require": "hunter2",
    "mssql:///?odbc_connect=UID%3Da%3BPWD%3Dhunter2%3BEncrypt%3Dyes": "hunter2",
    "redis://:hunt%65r2%21@host": "hunt%65r2%21",
    "postgresql://host/db?password=hunt%26er2": "hunt&er2",
    "https://host/c?sv=1&sig=hunter2&se=2": "hunter2",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hunter2==;EndpointSuffix=x": "hunter2==",
    "authorization=Bearer%20hunter2,x=1": "hunter2",
    "+wandb.api_key='hunter2'": "hunter2",
}


@pytest.mark.parametrize("uri", WRITTEN, ids=count())
def test_a_credential_inside_of_any_variable(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"FATAL: authentication with {WRITTEN[uri]} failed"
    assert redact(text) == text
    monkeypatch.setenv("STORE", uri)
    assert redact(text) == "FATAL: authentication with *** failed"


@pytest.mark.parametrize("uri", WRITTEN, ids=count())
def test_a_credential_that_is_remembered(uri: str) -> None:
    text = f"FATAL: authentication with {WRITTEN[uri]} failed"
    assert redact(text) == text
    remember(f"tracking.uri={uri}")
    remember("http://localhost:5000")
    assert redact(text) == "FATAL: authentication with *** failed"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("sqlite:////data/a@b/mlflow.db", "/data/a@b/mlflow.db"),
        ("http://localhost:5000/some-page@2", "http://localhost:5000 5000/some-page some-page"),
        ("postgresql://mlflow:mlflow@host/db", "mlflow"),
        ("postgresql://service:service@host/db", "the service"),
        ("http://franziska@host:3128", "/home/franziska"),
        ("http://me:short@host", "a short text"),
        ("optimizer.lr=1e-3 model.tokenizer=wordpiece seed=123456", "123456 wordpiece"),
    ],
    ids=count(),
)
def test_a_uri_has_no_credential_in_it(uri: str, text: str) -> None:
    remember(uri)
    assert redact(text) == text


# ---- values


def test_values_of_a_config() -> None:
    remember("postgresql://me:hunter2@host/db")
    config: dict[str, Any] = {
        "tracking": {"uri": "postgresql://you:other@host/db", "experiment": "hunter2 again"},
        "overrides": ["seed=1", "tags.password=other"],
        "shape": ("hunter2", 3),
        "hunter2": None,
        "tags": {"password": "other", "db.password": 12345, "hf_token": "x y", "AWS_SECRET_ACCESS_KEY": ["a", "b"]},
        "api-keys": {"one": "other"},
        "seed": 1,
    }
    before = json.dumps(config)
    assert redact_values(config) == {
        "tracking": {"uri": "postgresql://***@host/db", "experiment": "*** again"},
        "overrides": ["seed=1", "tags.password=***"],
        "shape": ("***", 3),
        "hunter2": None,
        "tags": {"password": "***", "db.password": "***", "hf_token": "***", "AWS_SECRET_ACCESS_KEY": "***"},
        "api-keys": "***",
        "seed": 1,
    }
    assert json.dumps(config) == before


def test_ordinary_keys_of_a_config() -> None:
    names = ["num_tokens", "tokens", "cls_token", "pad_token", "tokenizer", "token_dropout", "key", "keys", "password_"]
    config: dict[str, Any] = {
        **{name: "kept" for name in names},
        "token": None,
        "secret": "",
        "password": True,
        "credentials": [],
    }
    assert redact_values(config) == config


def test_nothing_is_taken_out_of_our_own_configs() -> None:
    files = sorted(CONF.rglob("*.yaml"))
    assert len(files) > 30
    for file in files:
        config = yaml.safe_load(file.read_text())
        assert redact_values(config) == config, file


# ---- logging


def test_a_log_holds_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Redacting("%(levelname)s %(message)s"))
    log = logging.Logger("of this test")
    log.addHandler(handler)
    try:
        try:
            raise ValueError(f"first {SECRET}")
        except ValueError as error:
            raise RuntimeError(f"then {SECRET}") from error
    except RuntimeError:
        log.exception("failed with %s at %s", SECRET, "http://a:b@host")
    text = stream.getvalue()
    assert text.startswith("ERROR failed with *** at http://***@host\nTraceback")
    assert "ValueError: first ***" in text
    assert text.endswith("RuntimeError: then ***\n")
    assert SECRET not in text


def test_holding_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert holds_secret("a hunter2 b")
    assert not holds_secret("password=other http://a:b@host")
