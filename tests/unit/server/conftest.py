"""Makes small models of every kind with random weights, and serves them from a thread of the test."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tokenizers
import torch

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from starlette.routing import Route

from bertwright.hub.encoder_folder import save_model
from bertwright.hub.sentence_folder import save_sentence_model
from bertwright.hub.task_folder import save_fine_tuned
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.server.app import Service, build_app
from bertwright.server.batcher import Batcher
from bertwright.server.endpoints.call import Limits
from bertwright.server.open_model import open_model
from bertwright.server.prometheus import Metrics
from bertwright.server.running import listening, server_of
from bertwright.tasks.by_name import config_to_keep
from bertwright.tasks.multiple_choice.task import Choose
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.ranking.task import Rank

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "away", "un", "##known", ".", "?", "who"]
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
LENGTH = 48


def write_tokenizer(folder: Path) -> Path:
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(NAMES)}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.add_special_tokens(NAMES[:5])
    backend.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def random_encoder() -> Encoder:
    shape = {"vocab_size": len(NAMES), "layers": 2, "hidden_size": 32, "heads": 2, "max_positions": LENGTH}
    encoder = build_encoder(named_size("tiny", architecture="bert", **shape)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return encoder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of models by kind; the first one gives vectors."""
    home = tmp_path_factory.mktemp("served")
    tokenizer = write_tokenizer(home)
    torch.manual_seed(7)
    heads: dict[str, Any] = {
        "classify": ("row", ("bad", "good", "odd"), "single_label_classification", {}),
        "regress": ("row", ("score",), "regression", {}),
        "rank": ("row", ("rank",), "regression", config_to_keep(Rank.from_labels(["rank"], {"top_grade": 3}))),
        "tagger": ("token", ("O", "B-PER", "I-PER"), "single_label_classification", {}),
        "reader": ("span", Answer().labels, Answer().problem, {"max_answer": 7}),
        "chooser": ("choice", Choose().labels, Choose().problem, {}),
    }
    vectors = SentenceEncoder(random_encoder(), pooling="mean", normalize=True)
    save_sentence_model(vectors, tokenizer, home / "vectors", max_length=LENGTH)
    save_model(random_encoder(), tokenizer, home / "words")
    for kind, (head, labels, problem, own) in heads.items():
        model = FineTuned(random_encoder(), head_type=head, outputs=len(labels), dropout=0.0).eval()
        torch.nn.init.normal_(model.classifier.weight, std=0.5)
        save_fine_tuned(model, tokenizer, home / kind, labels=labels, problem=problem, extra_config=own)
    return {name: home / name for name in ("vectors", "words", *heads)}


class Reply(NamedTuple):
    """A response: its status, its JSON where it has some, its headers in lower case."""

    status: int
    json: Any
    headers: dict[str, str]


class Served:
    """A server in a thread."""

    def __init__(self, address: tuple[str, int], service: Service) -> None:
        self.host, self.port = address
        self.service = service
        self.url = f"http://{self.host}:{self.port}"

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        given = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, given, {"content-type": "application/json", **headers})

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): one for name, one in headers.items()})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        is_json = response.headers.get("content-type", "").startswith("application/json")
        found = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, json.loads(raw) if is_json else raw.decode(), found)


@pytest.fixture(scope="session")
def serve_folders() -> Iterator[Callable[..., Served]]:
    """Return what serves folders with limits, a key and host names, until the session ends."""
    running: list[tuple[Any, threading.Thread]] = []
    sockets = ExitStack()

    def start(
        folders: dict[str, Path],
        *,
        limits: Limits | None = None,
        key: str | None = None,
        hosts: frozenset[str] | None = None,
        budget: int = 256,
        pages: Sequence[Route] = (),
    ) -> Served:
        models = {name: open_model(name, folder, precision="fp32", budget=budget) for name, folder in folders.items()}
        limits = limits or Limits()
        metrics = Metrics()
        batcher = Batcher(workers=2, budget=budget, most_jobs=limits.concurrent)
        service = Service(models, batcher, limits, metrics, key, hosts, pages)
        sock = sockets.enter_context(listening("127.0.0.1", 0))
        server = server_of(build_app(service), seconds=5)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        running.append((server, thread))
        served = Served(sock.getsockname()[:2], service)
        while not service.is_warm:
            time.sleep(0.01)
        return served

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
    sockets.close()


@pytest.fixture(scope="session")
def served(folders: dict[str, Path], serve_folders: Callable[..., Served]) -> Served:
    """A server of every kind of model."""
    return serve_folders(folders)
