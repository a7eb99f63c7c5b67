"""Assemble the sampler as a package of OptunaHub's registry.

    python -m scripts.optuna_hub.build DIR

DIR gets `package/samplers/frontier`: the modules of `search/sampling` as they are, what `scripts/optuna_hub/frontier`
adds, and the licence. There is no other copy of the code, so that none can fall behind. The table in its README is what
its example prints here and now (--searches: five of each sampler by default, some minutes).
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES, ADDED = ROOT / "search" / "sampling", Path(__file__).resolve().parent / "frontier"
PLACE = "package/samplers/frontier"
TABLE = "{{ table }}"


def assemble(folder: Path) -> Path:
    """Write the package below `folder`, its README without the table, and return where it is."""
    package = folder / PLACE
    package.mkdir(parents=True)
    for path in SOURCES.glob("*.py"):
        if path.name != "__init__.py":
            shutil.copy(path, package)
    shutil.copytree(ADDED, package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", package)
    return package


def measure(package: Path, searches: int) -> str:
    """What the package's example prints. Raises CalledProcessError where it fails."""
    command = [sys.executable, "example.py", "--compare", str(searches)]
    return subprocess.run(command, cwd=package, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder without a package of this name")
    parser.add_argument("--searches", type=int, default=5, help="searches of each sampler in the table, 5 by default")
    options = parser.parse_args()
    if (options.folder / PLACE).exists():
        print(f"{options.folder / PLACE} is there already: remove it, or name another folder", file=sys.stderr)
        return 2
    package = assemble(options.folder)
    page = package / "README.md"
    text = page.read_text().replace("{{ searches }}", str(options.searches))
    page.write_text(text.replace(TABLE, measure(package, options.searches)))
    print(package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
