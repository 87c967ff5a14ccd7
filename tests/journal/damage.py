"""Ways to damage the files of a journal that nobody has open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random


def flip(path: Path, bit: int) -> None:
    """Turn over one bit; ``bit`` counts from the file's beginning, or its end if below 0."""
    data = bytearray(path.read_bytes())
    data[bit // 8 if bit >= 0 else len(data) + bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    """Cut a file off after ``size`` bytes."""
    path.write_bytes(path.read_bytes()[:size])


def garble(path: Path, begin: int, content: bytes) -> None:
    """Write other bytes over a part of a file."""
    data = bytearray(path.read_bytes())
    data[begin : begin + len(content)] = content
    path.write_bytes(data)


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def files(directory: Path) -> list[Path]:
    """Return the files that hold something, without the index that SQLite makes of its log."""
    every = [path for path in directory.iterdir() if path.is_file() and path.stat().st_size]
    return sorted(path for path in every if not path.name.endswith("-shm"))


def at_random(path: Path, random: Random) -> str:
    """Damage a file in one of these ways; say how."""
    size = path.stat().st_size
    ways: dict[str, Callable[[], None]] = {
        "flip": lambda: flip(path, random.randrange(8 * size)),
        "cut": lambda: cut(path, random.randrange(size)),
        "garble": lambda: garble(path, random.randrange(size), random.randbytes(200)),
        "zero": lambda: garble(path, random.randrange(size), bytes(4096)),
    }
    way = random.choice(sorted(ways))
    ways[way]()
    return f"{way} {path.name}"


def crashed(directory: Path, copy: Path) -> Path:
    """Return a copy of a journal's files as they are now: what a killed process leaves."""
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("*-shm"))
    return copy
