"""Measures `bertwright serve` under load, alone or beside sentence-transformers behind FastAPI: requests/s, p50, p99.

    python benchmarks/serving.py --model DIR --clients 500 --seconds 60 --sides ours
    python benchmarks/serving.py --model DIR --clients 64 --seconds 30 --turns 3 --out results/serving.json
    python benchmarks/serving.py --model DIR --sides ours fastapi-threads --bf16

Clients on the same machine each send a text of mixed length, wait for its vector, and send the next; a line of JSON is
printed for each side and turn. Every answer is checked: status 200, and the first numbers are those of that text. The
sides take turns, each in a process of its own; ratios are of medians, to the faster of the two peers. Turns that --out
holds already, of the same call, are kept: what was interrupted goes on, and more --turns are added.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from typing import Any

PEER = Path(__file__).parent / "peers" / "fastapi_vectors.py"
SIDES = ("ours", "fastapi-threads", "fastapi-one-at-a-time")
TEXTS, FEWEST, MOST = 256, 3, 160
"""How many texts there are, and how many words they have, by a law that makes short ones as common as on the web."""
STARTING = 15.0
"""Seconds that a server takes to start and to stop, for the time left."""
CHECKED = 3
"""Numbers of a vector that are compared."""


@dataclass
class Load:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    wrong: int = 0


def texts() -> list[str]:
    """Return texts of Python's documentation, their lengths spread evenly over the logarithm."""
    chosen, words = random.Random(0), " ".join(topics.values()).split()
    lengths = [round(FEWEST * (MOST / FEWEST) ** chosen.random()) for _ in range(TEXTS)]
    begins = [chosen.randrange(len(words) - MOST) for _ in range(TEXTS)]
    return [" ".join(words[begin : begin + length]) for begin, length in zip(begins, lengths, strict=True)]


def command(side: str, options: argparse.Namespace, port: int) -> list[str]:
    """Return what starts a side."""
    if side == "ours":
        words = [sys.executable, "-m", "bertwright", "serve", "--model", f"m={options.model}", "--port", str(port)]
        words += ["--max-concurrent-requests", str(max(512, 2 * options.clients))]
        words += ["--auto-truncate", *(["--precision", "bf16"] if options.bf16 else []), *options.flags.split()]
        return words
    words = [options.peer_python, str(PEER), "--model", str(options.peer_model or options.model), "--port", str(port)]
    return words + ["--one-at-a-time"] * (side == "fastapi-one-at-a-time") + ["--bf16"] * options.peer_bf16


@contextlib.contextmanager
def running(words: list[str], port: int) -> Iterator[int]:
    """Start a server, wait until it is healthy, yield its process id, and stop it."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            if process.poll() is not None:
                raise SystemExit(f"{words} ended with {process.returncode}")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def request(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], message: bytes) -> tuple[int, bytes]:
    """Send a request on an open connection; return status and body."""
    reader, writer = streams
    writer.write(message)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def client(
    number: int, port: int, messages: list[bytes], wanted: list[list[float]], end: float, load: Load
) -> None:
    """Ask for one vector after the other until the time is up."""
    streams = await asyncio.open_connection("127.0.0.1", port)
    place = number * 7919
    while time.perf_counter() < end:
        place = (place + 1) % len(messages)
        began = time.perf_counter()
        try:
            status, body = await request(streams, messages[place])
        except (OSError, asyncio.IncompleteReadError):
            load.lost += 1
            streams = await asyncio.open_connection("127.0.0.1", port)
            continue
        load.seconds.append(time.perf_counter() - began)
        if status != 200:
            load.lost += 1
        elif number < 32:  # some clients look at what they got; all would measure the clients
            found = json.loads(body)[0][:CHECKED]
            load.wrong += any(abs(a - b) > 0.02 for a, b in zip(found, wanted[place], strict=True))
    streams[1].close()


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that a process has used; other work on the machine does not count."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def clients(port: int, count: int, seconds: float, pid: int) -> tuple[Load, float]:
    """Load a server; return what all clients saw after the first tenth of the time, and the CPU it used for that."""
    messages = []
    for text in texts():
        body = json.dumps({"inputs": text}).encode()
        head = "POST /embed HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
        messages.append(f"{head}{len(body)}\r\n\r\n".encode() + body)
    streams = await asyncio.open_connection("127.0.0.1", port)
    wanted = [json.loads((await request(streams, message))[1])[0][:CHECKED] for message in messages]
    for part in (seconds / 10, seconds):
        load, end, before = Load(), time.perf_counter() + part, cpu_seconds(pid)
        await asyncio.gather(*(client(number, port, messages, wanted, end, load) for number in range(count)))
    return load, cpu_seconds(pid) - before


def measure(side: str, options: argparse.Namespace, port: int) -> dict[str, Any]:
    """Return the figures of a side in one turn."""
    with running(command(side, options, port), port) as pid:
        load, used = asyncio.run(clients(port, options.clients, options.seconds, pid))
        memory = Path(f"/proc/{pid}/status")
        lines = memory.read_text().splitlines() if memory.exists() else []
    times = sorted(load.seconds)
    return {
        "side": side,
        "clients": options.clients,
        "requests_per_second": round(len(times) / options.seconds, 1),
        "requests_per_cpu_second": round(len(times) / used, 1),
        "lost": load.lost,
        "wrong": load.wrong,
        "p50_ms": round(1000 * times[len(times) // 2], 1),
        "p99_ms": round(1000 * times[len(times) * 99 // 100], 1),
        "peak_mb": next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), None),
    }


def same_call(options: argparse.Namespace) -> dict[str, Any]:
    """Return what two calls must have in common for their turns to stand in one report."""
    names = ("model", "peer_model", "clients", "seconds", "bf16", "peer_bf16", "flags")
    call = {name: getattr(options, name) for name in names}
    return {name: "/".join(one.resolve().parts[-2:]) if isinstance(one, Path) else one for name, one in call.items()}


def kept_turns(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the turns of the same call that --out holds; ends with a sentence where they are of another call."""
    if options.out is None or not options.out.exists():
        return []
    report = json.loads(options.out.read_text(encoding="utf-8"))
    if report.get("call") != same_call(options):
        raise SystemExit(f"{options.out} holds turns of another call; give another --out")
    return list(report["turns"])


def write_report(lines: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the report of the turns so far, and write it to --out."""
    speeds = {
        side: median(one["requests_per_second"] for one in lines if one["side"] == side)
        for side in SIDES
        if any(one["side"] == side for one in lines)
    }
    peers = [speed for side, speed in speeds.items() if side != "ours"]
    report = {
        "call": same_call(options),
        "cores": len(os.sched_getaffinity(0)),
        "precision": "bf16" if options.bf16 else "fp32",
        "requests_per_second": speeds,
        "times_the_faster_peer": round(speeds["ours"] / max(peers), 2) if peers and "ours" in speeds else None,
        "turns": lines,
    }
    if options.out:
        aside = options.out.with_suffix(".new")
        aside.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        aside.replace(options.out)
    return report


def main() -> None:
    """Measure the sides in turn, and print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--peer-model", type=Path, help="where ours is an ONNX folder: the one it was exported from")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="ours in bfloat16")
    parser.add_argument("--peer-bf16", action="store_true")
    parser.add_argument("--flags", default="", help="more flags of bertwright serve, in one word")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = kept_turns(options)
    missing = [
        side
        for turn in range(options.turns)
        for side in options.sides
        if sum(one["side"] == side for one in lines) <= turn
    ]
    for place, side in enumerate(missing):
        minutes = (len(missing) - place) * (1.1 * options.seconds + STARTING) / 60
        print(f"{place + 1} of {len(missing)}: {side}, {minutes:.1f} minutes left", file=sys.stderr, flush=True)
        figures = measure(side, options, options.port + place)
        print(json.dumps(figures), flush=True)
        lines.append(figures)
        write_report(lines, options)
    print(json.dumps(write_report(lines, options)))


if __name__ == "__main__":
    main()
