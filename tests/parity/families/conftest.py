"""Writes a folder of every architecture as transformers does: a random model, and a tokenizer of its kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bertwright.tokenizer.load import SPECIAL_NAMES

LONGEST = 48
CORPUS = [
    "The old boat sails home.", "we see the red sun, and it is old!", "A new moon", "The boat is red.", "it sails",
    "we see it.", "the moon and the old red sun", "the sea is far, far from home; a boat sails",
    "Old boats, new boats, 12 moons",
]  # fmt: skip
"""What tokenizers learn from."""

MakeTokenizer = Callable[[], Tokenizer]


def wordpiece() -> Tokenizer:
    """BERT's: [CLS] A [SEP] B [SEP], token types 0 and 1."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special))
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = decoders.WordPiece()
    return backend


def byte_level() -> Tokenizer:
    """RoBERTa's: byte-level BPE, <s> A </s></s> B </s>, a mask that takes the blank before it."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return backend


def unigram(first: str, pair: str, special: list[str], *, mask: str) -> Tokenizer:
    """Made of a sentencepiece model: Unigram over pieces that begin with a blank."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"')])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    unknown = next(name for name in special if "unk" in name.lower())
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token=unknown)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken(mask, lstrip=True, normalized=False)])
    framing = [(name, backend.token_to_id(name)) for name in {*first.split(), *pair.split()} & {*special}]
    backend.post_processor = processors.TemplateProcessing(single=first, pair=pair, special_tokens=framing)
    return backend


def xlm_roberta() -> Tokenizer:
    """XLM-RoBERTa's and CamemBERT's frame, all token types 0."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    return unigram("<s> $A </s>", "<s> $A </s> </s> $B </s>", special, mask="<mask>")


def camembert() -> Tokenizer:
    """CamemBERT's: the ids of its special tokens are not the first ones."""
    special = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
    return unigram("<s> $A </s>", "<s> $A </s> </s> $B </s>", special, mask="<mask>")


def deberta() -> Tokenizer:
    """DeBERTa's: Unigram in BERT's frame."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    return unigram("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special, mask="[MASK]")


CLS, SEP = {"bos_token_id": 2, "cls_token_id": 2}, {"eos_token_id": 3, "sep_token_id": 3}
FAMILIES: dict[str, tuple[str, MakeTokenizer, dict[str, Any]]] = {
    "bert": ("Bert", wordpiece, {}),
    "bert, words of XLM-R": ("Bert", xlm_roberta, {"pad_token_id": 1}),
    "modernbert": ("ModernBert", wordpiece, CLS | SEP),
    "roberta": ("Roberta", byte_level, {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", xlm_roberta, {"type_vocab_size": 1}),
    "camembert": ("Camembert", camembert, {"type_vocab_size": 1}),
    "electra": ("Electra", wordpiece, {"embedding_size": 16}),
    "distilbert": ("DistilBert", wordpiece, {"hidden_dim": 48}),
    "deberta-v3": (
        "DebertaV2",
        deberta,
        {
            "relative_attention": True, "position_biased_input": False, "pos_att_type": "p2c|c2p",
            "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_buckets": 8, "legacy": False,
        },
    ),
}  # fmt: skip
COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert")
TYPED = ("bert", "electra")
"""Those whose tokenizers give the second text of a pair another token type."""
DISCRIMINATOR = "electra, discriminator"


def write_family(name: str, folder: Path) -> None:
    """Write a family's folder, as transformers does: a random model with a masked-token head."""
    kind, make, settings = FAMILIES[name]
    backend = make()
    ids = backend.get_vocab()
    names = {kind: next(token for token in tokens if token in ids) for kind, tokens in SPECIAL_NAMES.items()}
    types = ["token_type_ids"] if name in TYPED else []
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", *types, "attention_mask"],
        **{f"{kind}_token": token for kind, token in names.items()},
    ).save_pretrained(folder)
    offset = ids[names["pad"]] + 1 if name in COUNTED_FROM_PADDING else 0
    shape = {
        "vocab_size": backend.get_vocab_size(), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": LONGEST + offset, "pad_token_id": ids[names["pad"]],
        "initializer_range": 0.2,
    }  # fmt: skip
    save_random(f"{kind}ForMaskedLM", getattr(transformers, f"{kind}Config")(**shape | settings), folder)


def save_random(kind: str, config: transformers.PreTrainedConfig, folder: Path) -> None:
    """Write a model of a class, its weights moved away from their first values."""
    torch.manual_seed(5)
    model = getattr(transformers, kind)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family, written once."""
    written: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in written:
            written[name] = tmp_path_factory.mktemp("family") / "model"
            if name == DISCRIMINATOR:
                shutil.copytree(folder_of("electra"), written[name])
                config = transformers.AutoConfig.from_pretrained(written[name])
                save_random("ElectraForPreTraining", config, written[name])
            else:
                write_family(name, written[name])
        return written[name]

    return folder_of


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> tuple[str, Path]:
    """A family and its folder, that of a model with a masked-token head."""
    return request.param, folder_of(request.param)


@pytest.fixture(scope="module", params=[*FAMILIES, DISCRIMINATOR])
def any_family(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> tuple[str, Path]:
    """A family and its folder, ELECTRA's discriminator among them."""
    return request.param, folder_of(request.param)


@pytest.fixture(scope="session")
def discriminator(folder_of: Callable[[str], Path]) -> Path:
    """The folder of ELECTRA's discriminator."""
    return folder_of(DISCRIMINATOR)
