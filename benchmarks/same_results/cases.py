"""The table of what both commits run: a name, and commands as a user types them after `bertwright`.

Every case has a folder of its own under each commit, and all that its commands leave there is compared. In a command

    @in            is the folder of inputs
    @one/CASE      is what the first commit has made of another case, under both commits: so that the second reads
                   folders of the first, and one difference does not become many
    @steps         are the steps of all pre-training runs

and words of ours before it say what else happens: `fresh` (a process of its own, as from a shell, instead of one that
is forked from another that has loaded the libraries), `torchrun N` (in N processes), `stop PATH` (killed as soon as
PATH is there), `copy FROM TO` and `delete PATH`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PHASES = "[{length = 64, rows = 8, share = 0.6}, {length = 128, rows = 4, share = 0.4}]"
PHASE = "[{length = 64, rows = 8, share = 1.0}]"
TINY = "--size tiny --engine.log-every 2 --engine.evaluations 2 --engine.evaluation-rows 16 --schedule.phases"
PRETRAIN = f"pretrain --data @one/prepare/data --out run {TINY} '{PHASES}' --engine.compile false"
COMPILED = f"pretrain --data @one/prepare/data --out run {TINY} '{PHASE}' --engine.compile true"
TUNE = "--out run --rows 8 --max-length 64"
BERT, MODERN = "@one/classic-fast/run/model", "@one/fast/run/model"
CLASSIFY = f"finetune classify --model {BERT} --train @in/classify-train.tsv --dev @in/classify-dev.tsv {TUNE}"
TAG = f"--train @in/tag-train.conll --dev @in/tag-dev.conll {TUNE}"
ANSWER = f"--train @in/answer-train.json --dev @in/answer-dev.json {TUNE} --answer.window 48 --answer.stride 16"


@dataclass(frozen=True)
class Case:
    """Commands that run one after another in a folder of their own."""

    name: str
    commands: tuple[str, ...]
    once: bool = False
    """The first commit alone runs them: what they make is not the same twice, and others go on from it."""

    @property
    def needs(self) -> set[str]:
        """Names of the cases whose folders the commands read."""
        return set(re.findall(r"@one/([\w-]+)", " ".join(self.commands)))


def case(name: str, *commands: str, once: bool = False) -> Case:
    """Return a case."""
    return Case(name, commands, once)


def tuned(name: str, finetune: str, question: str, data: str = "") -> Case:
    """Return a case that fine-tunes, asks the model and evaluates it; `question` and `data` end the commands."""
    task, model = finetune.split()[1], "--model run/model"
    predict = f"predict {model} {question} --output predictions.jsonl"
    return case(name, f"{finetune} --epochs 1", predict, *([f"evaluate {task} {model} --data {data}"] if data else []))


PREPARE = (
    case("prepare", "fresh prepare @in/en.txt --out data --vocab-size 512 --held-out 0.2"),
    case(
        "prepare-bpe",
        "prepare @in/en.txt @in/more.jsonl.gz --out data --kind bpe --cased --vocab-size 512 --held-out 0.1",
    ),
    case("unigram", "prepare @in/en.txt --out data --kind unigram --vocab-size 512", once=True),
    case("prepare-unigram", "prepare @in/en.txt --out data --tokenizer @one/unigram/data/tokenizer --held-out 0.1"),
    case("prepare-zh", "prepare @in/zh.txt --out data --vocab-size 512 --held-out 0.2"),
    case(
        "prepare-more",
        "prepare @in/more.csv --column body --valid @in/en.txt --tokenizer @one/prepare/data/tokenizer --out data",
    ),
    case(
        "prepare-dirty",
        "prepare @in/dirty.jsonl --out data --vocab-size 512 --filter web words=5: --near-duplicates 0.8 "
        "--repeated-paragraphs 3 --only-language en --workers 2",
    ),
)
"""Raw text to DATA."""

RECIPES = (
    case("classic-fast", f"fresh {PRETRAIN} --steps @steps"),
    case("classic-fast-alone", f"{PRETRAIN} --steps @steps --objective.next-sentence false"),
    case("classic", f"{PRETRAIN} --recipe classic --steps @steps --engine.checkpoint-steps 2 --engine.keep-best true"),
    case("classic-alone", f"{PRETRAIN} --recipe classic --steps @steps --objective.next-sentence false --seed 1"),
    case("classic-muon", f"{PRETRAIN} --recipe classic-muon --steps @steps --average.name tail --average.share 0.5"),
    case("classic-muon-alone", f"{PRETRAIN} --recipe classic-muon --tokens 3000 --objective.next-sentence false"),
    case("fast", f"{PRETRAIN} --recipe fast --steps @steps"),
    case("fast-pairs", f"{PRETRAIN} --recipe fast --steps @steps --objective.next-sentence true"),
    case("fast-packed", f"{PRETRAIN} --recipe fast --steps @steps --data.pack true --model.global-every 2"),
    case(
        "fast-from-noise",
        f"{PRETRAIN} --recipe fast --steps @steps --model.init noise --model.neighbour-start true "
        "--objective.whole-word true",
    ),
    case("own-recipe", "pretrain --data @one/prepare-bpe/data --out run --recipe @in/own.toml --engine.compile false"),
    case(
        "chinese",
        f"{PRETRAIN.replace('prepare', 'prepare-zh')} --recipe classic --steps @steps --objective.whole-word true",
    ),
    case("unigram-run", f"{PRETRAIN.replace('prepare', 'prepare-unigram')} --recipe classic --steps @steps"),
    case("mixture", f"{PRETRAIN} --data @one/prepare-more/data --mixture 0.7,0.3 --recipe classic --steps @steps"),
    case(
        "accumulation",
        f"{PRETRAIN} --recipe classic --steps @steps --engine.accumulation 2 --engine.precision fp32 "
        "--optimizer.name stable-adamw --schedule.decay cosine",
    ),
    case(
        "lamb-ema",
        f"{PRETRAIN} --recipe classic --epochs 0.5 --optimizer.name lamb --optimizer.clip-norm 0 --average.name ema "
        "--schedule.decay one-minus-sqrt --schedule.decay-share 0.5 --schedule.final-rate 0.1",
    ),
    case("data-without-counts", "copy @one/prepare/data data", "delete data/neighbours.safetensors",
         f"{PRETRAIN.replace('@one/prepare/', '')} --steps @steps"),
)  # fmt: skip
"""DATA to RUN: every recipe with and without next sentences, and every part of training that has code of its own."""

TASKS = (
    tuned(
        "classify", f"{CLASSIFY} --test @in/unlabelled.jsonl --seeds 2", "--input @in/texts.txt", "@in/classify-dev.tsv"
    ),
    tuned(
        "classify-pairs",
        f"finetune classify --model {MODERN} --train @in/pairs-train.tsv {TUNE} "
        "--class-weights balanced --positive same",
        "--input @in/pairs.tsv",
        "@in/pairs-dev.tsv",
    ),
    tuned(
        "classify-several",
        f"finetune classify --multi-label --model {BERT} --train @in/several-train.jsonl {TUNE} "
        "--watch.evaluations 2 --patience 1 --metric f1_macro",
        "--input @in/several-dev.jsonl",
        "@in/several-dev.jsonl",
    ),
    tuned(
        "regress",
        "finetune regress --model @one/classify/run/model --train @in/scores-train.csv --dev @in/scores-dev.csv "
        f"{TUNE}",
        "--input @in/scores-dev.csv",
        "@in/scores-dev.csv",
    ),
    tuned("tag", f"finetune tag --model {BERT} {TAG}", "--input @in/tag.txt", "@in/tag-dev.conll"),
    tuned("tag-crf", f"finetune tag --crf --model {MODERN} {TAG}", "--input @in/tag-dev.conll", "@in/tag-dev.conll"),
    tuned("answer", f"finetune answer --model {BERT} {ANSWER}", "--input @in/answer-dev.json", "@in/answer-dev.json"),
    tuned(
        "choose",
        f"finetune choose --model {MODERN} --train @in/choose-train.csv --dev @in/choose-dev.csv {TUNE}",
        "--input @in/choose-dev.csv",
        "@in/choose-dev.csv",
    ),
    tuned(
        "translate",
        f"finetune translate --model {BERT} --train @in/translate-train --dev @in/translate-dev "
        f"--source en --target de {TUNE} --decoder-layers 1",
        "--input @in/translate-dev.en",
        "@in/translate-dev.en,@in/translate-dev.de",
    ),
    tuned(
        "embed-pairs",
        f"finetune embed --model {BERT} --train @in/embed-train.tsv --dev @in/embed-dev.tsv {TUNE}",
        "--input @in/pairs.tsv",
        "@in/embed-dev.tsv",
    ),
    case(
        "embed-texts",
        f"finetune embed --model {MODERN} --train @in/texts.txt --dev @in/embed-dev.tsv {TUNE} --epochs 1 "
        "--embed.pooling cls",
    ),
    case(
        "embed-scores",
        f"finetune embed --model @one/embed-pairs/run/model --train @in/scores-train.csv {TUNE} --epochs 1",
    ),
)
"""Every task: fine-tuned, asked and evaluated."""

STRATEGIES = tuple(
    case(name, f"{task} --epochs 1 {settings}")
    for name, task, settings in (
        ("layer-decay", CLASSIFY, "--layer-decay 0.8 --dropout 0.2"),
        ("freeze", CLASSIFY, "--freeze 1"),
        ("freeze-all", CLASSIFY, "--freeze all"),
        ("unfreeze", CLASSIFY, "--unfreeze 0.7"),
        ("lora", CLASSIFY, "--lora-rank 4"),
        (
            "lora-everywhere",
            f"finetune tag --model {MODERN} {TAG}",
            "--lora-rank 2 --lora-matrices query,key,value,output,inner",
        ),
        ("r-drop", CLASSIFY, "--r-drop 1"),
        ("r-drop-tag", f"finetune tag --crf --model {BERT} {TAG}", "--r-drop 1"),
        ("tune-muon", CLASSIFY, "--optimizer.name muon --batches.tokens 256"),
    )
)
"""Every strategy of transfer, and what else of fine-tuning has code of its own."""

EXPORTS = (
    case(
        "onnx-classify",
        "export --model @one/classify/run/model --out onnx",
        "predict --model onnx --input @in/texts.txt --output predictions.jsonl",
        "export --model @one/classify/run/model --out int8 --quantize int8 --data @in/classify-dev.tsv",
        "predict --model int8 --input @in/texts.txt --output int8.jsonl",
    ),
    case(
        "onnx-tag-crf",
        "export --model @one/tag-crf/run/model --out int8 --quantize int8",
        "predict --model int8 --input @in/tag-dev.conll --output int8.jsonl",
    ),
    case(
        "onnx-answer",
        "export --model @one/answer/run/model --out onnx",
        "predict --model onnx --input @in/answer-dev.json --output predictions.jsonl",
    ),
    case(
        "onnx-choose",
        "export --model @one/choose/run/model --out onnx",
        "predict --model onnx --input @in/choose-dev.csv --output predictions.jsonl",
    ),
    case(
        "onnx-embed",
        "export --model @one/embed-pairs/run/model --out onnx",
        "embed --model onnx --input @in/texts.txt --out vectors.npy",
        "export --model @one/embed-pairs/run/model --out int8 --quantize int8 --data @in/embed-dev.tsv",
        "embed --model int8 --input @in/texts.txt --out int8.npy",
    ),
    case(
        "onnx-words",
        "export --model @one/classic/run/model --out onnx",
        "predict --model onnx --input @in/masked.txt --output predictions.jsonl",
        "export --model @one/fast-pairs/run/model-nsp --out int8 --quantize int8",
        "predict --model int8 --input @in/next.txt --output int8.jsonl",
    ),
)  # fmt: skip
"""MODEL to ONNX, in float32 and int8, and what it answers."""

LOOKS = (
    case(
        "predict",
        "predict --model @one/classic/run/model --input @in/masked.txt --output predictions.jsonl --top-k 8",
        "predict --model @one/classic/run/model 'The king [MASK] the lamp.'",
        "predict --model @one/classic/run/model --input @in/next.txt --output next.jsonl",
        "predict --model @one/fast/run/model --input @in/masked.txt --output modern.jsonl",
        "predict --model @one/fast-pairs/run/model-nsp --input @in/next.txt --output modern-next.jsonl",
        "predict --model @one/chinese/run/model --input @in/masked-zh.txt --output chinese.jsonl",
        "predict --model @one/classify/run/model 'The fine boat.' --precision bf16",
        "predict --model @one/embed-scores/run/model 'A lamp.' 'A table.'",
    ),
    case(
        "embed",
        "embed --model @one/classic/run/model --input @in/texts.txt --out mean.parquet --float16",
        "embed --model @one/fast/run/model --input @in/classify-dev.tsv --out layer.npy --layer -2 --pooling max "
        "--normalize",
        "embed --model @one/embed-texts/run/model --input @in/texts.txt --out vectors.parquet",
    ),
    case(
        "evaluate",
        "evaluate mlm --model @one/classic/run/model --data @one/prepare/data",
        "evaluate mlm --model @one/fast/run/model --data @one/prepare/data --whole-word --rows 16 --length 64",
        "evaluate nsp --model @one/classic-fast/run/model --data @one/prepare/data --split train --rows 32",
        "evaluate nsp --model @one/fast-pairs/run/model-nsp --data @one/prepare/data",
        "evaluate minimal-pairs --model @one/classic/run/model --data @in/minimal.jsonl",
        "evaluate mlm --model @one/chinese/run/model --data @one/prepare-zh/data --rows 16",
    ),
    case(
        "doctor",
        "doctor @in/dirty.jsonl --test @in/classify-dev.tsv",
        "doctor @one/prepare/data --json --test @in/en.txt",
        "doctor @in/zh.txt --tokenizer @one/prepare/data/tokenizer --json",
    ),
    case(
        "show",
        "show @one/prepare/data",
        "show @one/prepare-zh/data/train-00000.arrow",
        "show @one/prepare/data --document 3",
        "show @one/prepare/data --batch 5 --whole-word --seed 3",
        "show @one/prepare/data --batch 2 --no-next-sentence --pack",
        "show @one/prepare/data --batch 2 --recipe fast",
        "show @one/classic/run",
        "show @one/classic/run --batch 4 --rows 2",
        "show @one/classic/run/checkpoints/step-@steps",
        "show @one/classic/run/model",
        "show @one/fast-pairs/run/model-nsp",
        "show @one/mixture/run",
        "show @one/tag-crf/run/model",
        *(f"show {recipe}" for recipe in ("classic", "classic-fast", "classic-muon", "fast", "@in/own.toml")),
    ),
    case(
        "verify",
        *(f"verify @one/{one}/data" for one in ("prepare", "prepare-zh", "prepare-bpe")),
        *(
            f"verify @one/{one}/run"
            for one in ("classic", "fast-pairs", "mixture", "lamb-ema", "classify", "translate")
        ),
        *(f"verify @one/{one}/run/model" for one in ("tag-crf", "answer", "embed-scores")),
    ),
    case(
        "bench",
        "bench step --data @one/prepare/data --size tiny --steps 2 --out bench.json --engine.compile false",
        "bench prepare @in/en.txt --tokenizer @one/prepare/data/tokenizer",
    ),
)
"""What is asked of folders that the first commit has made."""

RESUMED = (
    case(
        "stopped",
        f"stop run/checkpoints/step-4 {PRETRAIN} --recipe classic-muon --steps 40 --engine.checkpoint-steps 2 "
        "--average.name ema",
        once=True,
    ),
    case("resumed", "copy @one/stopped/run run", f"{PRETRAIN} --recipe classic-muon --steps 40 --resume"),
    case(
        "stopped-fast",
        f"stop run/checkpoints/step-4 {PRETRAIN} --recipe fast --steps 40 --engine.checkpoint-steps 2",
        once=True,
    ),
    case("resumed-fast", "copy @one/stopped-fast/run run", f"{PRETRAIN} --resume"),
    case("stopped-tuning", f"stop run/checkpoints {CLASSIFY} --epochs 8 --watch.checkpoint-steps 2", once=True),
    case(
        "resumed-tuning",
        "copy @one/stopped-tuning/run run",
        f"{CLASSIFY} --epochs 8 --watch.checkpoint-steps 2 --resume",
    ),
)
"""Runs that the first commit has begun, and that are gone on with: to the same end, or refused in a sentence."""

LONGEST = (
    case("two-processes", f"torchrun 2 {PRETRAIN} --recipe classic-muon --steps @steps"),
    case("compiled", f"fresh {COMPILED} --recipe classic --steps @steps"),
)
"""What takes longer than all else, at the end."""

CASES = (*PREPARE, *RECIPES, *TASKS, *STRATEGIES, *EXPORTS, *LOOKS, *RESUMED, *LONGEST)
