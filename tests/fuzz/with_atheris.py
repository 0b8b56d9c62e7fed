"""The fuzz targets under atheris, which follows coverage: python tests/fuzz/with_atheris.py [--seconds N] [target …].

Needs ``pip install atheris``, which has no wheels for every platform; ``make fuzz`` uses it where it is there.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # where it is installed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
with atheris.instrument_imports(include=["restante", "restante_crypto", "restante_protocol"]):
    from support.fuzz_targets import TARGETS


def one(name: str, seconds: int) -> None:
    """Run one target in this process, which libFuzzer ends."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(target.corpus()):
            (Path(folder) / str(number)).write_bytes(data)
        limits = [f"-max_total_time={seconds}", "-max_len=16384", "-timeout=20", "-rss_limit_mb=2048"]
        atheris.Setup([sys.argv[0], *limits, "-verbosity=0", "-print_final_stats=1", folder], target.run)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=20, help="per target")
    arguments = parser.parse_args()
    if len(arguments.targets) == 1:
        one(arguments.targets[0], arguments.seconds)
        return
    failed = []
    for name in arguments.targets or sorted(TARGETS):
        print(f"{name}: {arguments.seconds} s", flush=True)  # noqa: T201 -- a tool
        command = [sys.executable, __file__, "--seconds", str(arguments.seconds), name]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 -- ourselves
            failed.append(name)
    sys.exit(f"failed: {failed}" if failed else 0)


if __name__ == "__main__":
    main()
