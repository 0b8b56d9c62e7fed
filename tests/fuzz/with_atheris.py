"""The fuzz targets under atheris, which follows coverage: python tests/fuzz/with_atheris.py [--seconds N] [target …].

Every target runs in a process of its own, forked from one that has instrumented the code, as many at once as there are
cores. ``--runs`` bounds the inputs of each, too. With ``--keep`` what reached new code is added to tests/fuzz/corpus/.
Needs the group ``fuzz``, which has no wheels for every platform.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # where it is installed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
with atheris.instrument_imports(include=["restante", "restante_crypto", "restante_protocol", "restante_server"]):
    from support import corpora
    from support.fuzz_targets import TARGETS


def fuzz(name: str, seconds: int, runs: int, folder: Path) -> None:
    """Fuzz one target in this process, which libFuzzer ends."""
    for number, data in enumerate(corpora.seeds(name)):
        (folder / str(number)).write_bytes(data)

    def run(data: bytes) -> None:
        try:
            TARGETS[name].run(data)
        except BaseException:
            print(f"{name}: {data.hex()}", flush=True)  # noqa: T201 -- a tool: this input repeats it
            raise

    limits = [f"-max_total_time={seconds}", f"-runs={runs}", "-max_len=16384", "-timeout=20", "-rss_limit_mb=2048"]
    quiet = ["-verbosity=0", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *limits, *quiet, str(folder)], run)
    atheris.Fuzz()


def child(name: str, seconds: int, runs: int, folder: Path) -> int:
    """Fuzz in a new process; return its id."""
    folder.mkdir()
    if pid := os.fork():
        return pid
    try:
        fuzz(name, seconds, runs, folder)
    finally:
        os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=20, help="per target")
    parser.add_argument("--runs", type=int, default=-1, help="inputs per target, fewer of slow ones; -1: no limit")
    parser.add_argument("--keep", action="store_true", help="add what reached new code to the stored corpora")
    arguments = parser.parse_args()
    waiting, running, failed = list(arguments.targets), dict[int, str](), []
    with tempfile.TemporaryDirectory() as place:
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                name = waiting.pop(0)
                runs = arguments.runs if arguments.runs < 0 else max(1, arguments.runs // TARGETS[name].cost)
                running[child(name, arguments.seconds, runs, Path(place) / name)] = name
            pid, status = os.wait()
            name = running.pop(pid)
            if status:
                failed.append(name)
            elif arguments.keep:
                corpora.add(name, [each.read_bytes() for each in sorted((Path(place) / name).iterdir())])
    print(f"{len(arguments.targets)} targets under atheris")  # noqa: T201 -- a tool
    sys.exit(f"failed: {failed}" if failed else 0)


if __name__ == "__main__":
    main()
