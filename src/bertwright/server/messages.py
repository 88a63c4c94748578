"""Declares the bodies of requests and answers, once: they are read, checked, written and described from here.

The fields are those of Text Embeddings Inference and of OpenAI's endpoint; where they have none, those of `predict`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Direction = Literal["Left", "left", "Right", "right"]
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
Count = Annotated[int, Meta(ge=1, lt=2**31)]
Texts = str | list[str]
Embeddable = str | list[str | TokenId | list[TokenId]]
"""A text, texts, the ids of the tokens of a text, or those of several."""
PredictInput = str | list[str | Annotated[list[str], Meta(min_length=1, max_length=2)]]
"""A text, a pair of texts, or a list of [text] and [first, second]."""
Pair = Annotated[list[str], Meta(min_length=2, max_length=2)]


class Request(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every request may hold: which model is asked, where several are served."""

    model: str | None = None


class Cutting(Request, kw_only=True):
    """What is done with a text longer than the model reads: it is refused, or with `truncate` cut."""

    truncate: bool | None = None
    truncation_direction: Direction = "Right"


class EmbedRequest(Cutting, kw_only=True):
    """Texts to be turned into vectors; of unit length unless `normalize` is false."""

    inputs: Embeddable
    normalize: bool | None = None
    prompt_name: str | None = None
    dimensions: Count | None = None
    encoding_format: Literal["float"] | None = None


class EmbedAllRequest(Cutting, kw_only=True):
    """Texts whose every token is to be turned into a vector."""

    inputs: Embeddable
    prompt_name: str | None = None


class SimilarityInput(Struct, forbid_unknown_fields=True):
    """A sentence, and those it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Struct, forbid_unknown_fields=True):
    """How the sentences are read."""

    truncate: bool | None = None
    truncation_direction: Direction = "Right"
    prompt_name: str | None = None


class SimilarityRequest(Request, kw_only=True):
    """Sentences whose similarity to another is wanted."""

    inputs: SimilarityInput
    parameters: SimilarityParameters | None = None


class OpenAIRequest(Request, kw_only=True):
    """Texts to be turned into vectors, as OpenAI's client asks; `truncate` is an addition."""

    input: Embeddable
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    user: str | None = None
    truncate: bool | None = None


class OpenAIEmbedding(Struct):
    """A vector: numbers, or base64 of little-endian float32."""

    object: str
    embedding: list[float] | str
    index: int


class OpenAIUsage(Struct):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class OpenAIAnswer(Struct):
    """The vectors, and which model made them."""

    object: str
    data: list[OpenAIEmbedding]
    model: str
    usage: OpenAIUsage


class PredictRequest(Cutting, kw_only=True):
    """Texts or pairs whose labels are wanted; with `raw_scores`, logits instead of probabilities."""

    inputs: PredictInput
    raw_scores: bool = False


class Prediction(Struct):
    """A label and its score."""

    score: float
    label: str


class RerankRequest(Cutting, kw_only=True):
    """A query, and the texts to be ranked for it."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False


class Rank(Struct, omit_defaults=True):
    """The place of a text in the request, and its score."""

    index: int
    score: float
    text: str | None = None


class TokenizeRequest(Request, kw_only=True):
    """Texts to be cut into tokens."""

    inputs: Texts
    add_special_tokens: bool = True
    prompt_name: str | None = None


class Token(Struct):
    """A token: the characters it stands at and their text, its name in the vocabulary, whether a word starts there."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None
    token: str
    unknown: bool
    word_start: bool


class DecodeRequest(Request, kw_only=True):
    """Token ids to be turned into text."""

    ids: list[TokenId | list[TokenId]]
    skip_special_tokens: bool = True


class FillMaskRequest(Request, kw_only=True):
    """Texts with [MASK] where a word is to be guessed; `targets` are the only words looked at."""

    inputs: Texts
    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5
    targets: Annotated[list[str], Meta(min_length=1)] | None = None


class Guess(Struct):
    """A token that may stand at a [MASK], and its probability."""

    token: int
    token_str: str
    score: float


class NextSentenceRequest(Request, kw_only=True):
    """A pair of texts, or several: does the second follow the first?"""

    inputs: list[str | Pair]


class NextSentence(Struct, omit_defaults=True):
    """The probability that the second text follows, or of a model of sentence order that both are in order."""

    next: float | None = None
    in_order: float | None = None


class TagRequest(Request, kw_only=True):
    """Texts whose words are to be tagged."""

    inputs: Texts


class Entity(Struct):
    """An entity, the characters it stands at, and the mean probability of its tags."""

    type: str
    text: str
    start: int
    end: int
    probability: float


class TaggedWord(Struct):
    """A word, its tag, and the probability of that."""

    word: str
    tag: str
    probability: float


class Tagged(Struct, omit_defaults=True):
    """A text with its entities, or of plain tags with its words."""

    text: str
    entities: list[Entity] | None = None
    tags: list[TaggedWord] | None = None


class QuestionInput(Struct, forbid_unknown_fields=True):
    """A question, and the text that may hold its answer."""

    question: str
    context: str


class AnswerRequest(Request, kw_only=True):
    """Questions about contexts."""

    inputs: QuestionInput | list[QuestionInput]


class Span(Struct):
    """A piece of the context, the characters it stands at, its score and its probability."""

    answer: str
    start: int
    end: int
    score: float
    probability: float


class AnsweredQuestion(Struct):
    """The best answer, empty where the context has none, and the next best."""

    question: str
    answer: str
    start: int
    end: int
    score: float
    probability: float
    others: list[Span]


class ChoiceInput(Struct, forbid_unknown_fields=True):
    """A context, and what may follow it."""

    context: str
    choices: Annotated[list[str], Meta(min_length=2)]


class ChooseRequest(Cutting, kw_only=True):
    """Contexts with choices."""

    inputs: ChoiceInput | list[ChoiceInput]


class Chosen(Struct):
    """The most probable choice, its place from 0, and the probability of each."""

    context: str
    choice: str
    place: int
    probability: float
    probabilities: list[float]


class TranslateRequest(Cutting, kw_only=True):
    """Texts to be translated."""

    inputs: Texts


class Translated(Struct):
    """A text and what the model writes about it."""

    text: str
    translation: str


class AttentionRequest(Request, kw_only=True):
    """A text or a pair; `layers` from 0 are the blocks whose attention is wanted, all where there are none."""

    inputs: str | Pair
    layers: Annotated[list[TokenId], Meta(min_length=1)] | None = None


class AttentionAnswer(Struct):
    """The S tokens of the text, and how much each (row) attends to each (column): [layers, heads, S, S]."""

    tokens: list[str]
    token_type_ids: list[int]
    layers: list[int]
    attention: list[list[list[list[float]]]]


class InspectRequest(Request, kw_only=True):
    """A text, or with `second` a pair, whose inside is wanted; with `others`, how alike each of these is.

    `seed` is that of the masks drawn.
    """

    text: str
    second: str | None = None
    others: list[str] | None = None
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0


class HubPredictRequest(PredictRequest, kw_only=True):
    """As InferenceClient.text_classification asks."""

    top_k: Count | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class HubTagRequest(TagRequest, kw_only=True):
    """As InferenceClient.token_classification asks; entities are always joined, which it calls "simple"."""

    aggregation_strategy: Literal["simple"] | None = None
    ignore_labels: list[str] | None = None


class HubAnswerRequest(AnswerRequest, kw_only=True):
    """As InferenceClient.question_answering asks."""

    top_k: Annotated[int, Meta(ge=1, le=1)] | None = None
    handle_impossible_answer: bool | None = None
