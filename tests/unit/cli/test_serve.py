"""`sevenfold serve` refuses what cannot be together before it touches anything."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sevenfold.cli.main import main


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--workers", "2", "--clock", "replay"], "leave --workers out"),
        (["--workers", "2", "--log-sync", "everysec"], "leave --log-sync out"),
        (["--tls-cert", "c.pem"], "or neither"),
        (["--log-sync", "never"], "everysec"),
    ],
)
def test_what_cannot_be_together_is_refused(
    tea: Path, tmp_path: Path, more: list[str], word: str
) -> None:
    home = tmp_path / "none"
    done = CliRunner().invoke(main, ["serve", str(tea), "--home", str(home), *more])
    assert done.exit_code == 2, done.output
    assert word in done.output
    assert not home.exists()
