"""The example of the README runs, and is the one in the folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent


def test_the_example_runs(database: str) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "examples/hello.py")],
        env=os.environ | {"DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "order 7 is paid with 1999 cents and packed\n", done.stderr


def test_the_readme_shows_it() -> None:
    code = (HERE / "examples/hello.py").read_text().split("\n\n", 1)[1]
    assert code.strip() in (HERE / "README.md").read_text()
