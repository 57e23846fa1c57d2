"""What counts as a credential, and what does not."""

from __future__ import annotations

import pytest

from blitz.tracking.credentials import redact, redact_command

SECRET = "hunter2"


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
    ],
)
def test_credentials_are_taken_out(text: str, expected: str | None) -> None:
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
