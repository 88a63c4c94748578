"""Turns what the system says of its memory into the bytes that this process can still take."""

from __future__ import annotations

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)
"""The limit of a container, what is used of it, and the part of that which is files: they can be read again."""


def free_memory(meminfo: Path = MEMINFO, groups: tuple[tuple[Path, Path, str], ...] = GROUPS) -> int | None:
    """Return the bytes that are free, in the machine and in the container; None where the system does not say."""
    found = []
    for line in _text(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    for limit, used, cached in groups:
        most, taken = _text(limit).strip(), _text(used).strip()
        if most.isdigit() and taken.isdigit():
            lines = dict(
                line.split() for line in _text(used.parent / "memory.stat").splitlines() if line.count(" ") == 1
            )
            found.append(max(0, int(most) - int(taken) + int(lines.get(cached, 0))))
    return min(found, default=None)


def machine_memory(meminfo: Path = MEMINFO, groups: tuple[tuple[Path, Path, str], ...] = GROUPS) -> int | None:
    """Return the bytes that the machine, or the container, has in all; None where the system does not say."""
    found = [1024 * int(line.split()[1]) for line in _text(meminfo).splitlines() if line.startswith("MemTotal:")]
    found += [int(most) for limit, _, _ in groups if (most := _text(limit).strip()).isdigit()]
    return min(found, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
