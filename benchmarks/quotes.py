"""Figures quoted in README.md and docs/*.md, filled in anew from the rows of docs/results; what changed is printed.

Words beside a figure ("half", "three times") stay: read what changed.

    python -m benchmarks.quotes
"""

from __future__ import annotations

import argparse

from amalgan.results import filled, quoted
from benchmarks.machine import ROOT


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        for before, after in zip(quoted(text), quoted(new), strict=True):
            if before != after:
                print(
                    f"{page.relative_to(ROOT)}: {'/'.join((before.name, *before.key))} {before.figure} -> {after.figure}"
                )
        if new != text:
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
