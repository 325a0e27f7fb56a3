"""What README and docs say is run: every Python block, in order, in a folder of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))] if "```python" in page.read_text()]


def snippets(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))


def run(code: list[str], folder: Path) -> None:
    done = subprocess.run([sys.executable, *code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    run(["-c", snippets(page)], tmp_path)


def test_the_lower_level_fits_in_25_lines() -> None:
    code = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[-1]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) < 25


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_commands_in_the_readme_parse() -> None:
    from amalgan import cli

    for line in re.findall(r"^    amalgan (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE):
        words = shlex.split(line, comments=True)
        arguments = cli.build().parse_args(words)
        assert callable(arguments.verb), line


SCALE = (ROOT / "docs" / "scale.md").read_text()


def test_commands_for_clusters_parse() -> None:
    """Those of torchrun and Slurm, with a number in place of each variable."""
    from amalgan import cli

    pages = re.sub(r"\$\{?\w+\}?", "0", SCALE + (ROOT / "docs" / "tuning.md").read_text())
    commands = re.findall(r'^    (?:torchrun .*-m )?amalgan (.*)$|^    .*what="(.*?)"', pages, re.MULTILINE)
    assert len(commands) > 8
    for plain, quoted in commands:
        arguments = cli.build().parse_args(shlex.split(plain or quoted, comments=True))
        assert callable(arguments.verb), plain or quoted


def test_scripts_for_slurm_are_sound() -> None:
    for script in re.findall(r"^    (#!/bin/bash\n(?:    .*\n)+)", SCALE, re.MULTILINE):
        done = subprocess.run(["bash", "-n"], input=script.replace("\n    ", "\n"), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_first_commands_for_several_processes_run(tmp_path: Path) -> None:
    block = re.search(r"^    torchrun(?:.*\n    )+.*", SCALE, re.MULTILINE)
    assert block is not None
    for line in block[0].splitlines():
        words = shlex.split(line)
        program = {"torchrun": "torch.distributed.run", "amalgan": "amalgan"}[words[0]]
        run(["-m", program, *words[1:]], tmp_path)
    assert (tmp_path / "runs" / "two" / "model" / "config.json").is_file()
