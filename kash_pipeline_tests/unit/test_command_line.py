"""Exit codes: 2 says that something waits for a person, so a command typed wrongly must never end with it."""

import pytest

from kash_pipeline.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nope"], "--nope"),
        (["nope"], "nope"),
        (["plan", "--nope"], "--nope"),
        (["plan", "--from", "2026-13-01"], "2026-13-01"),
        (["pennylane", "nope"], "nope"),
        (["build"], "--shop"),
        ([], "Commands:"),
    ],
)
def test_a_command_typed_wrongly_exits_with_1(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["--version"]])
def test_help_that_was_asked_for_is_no_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
