"""Schemas of requests and answers. Unknown fields and values of another type are errors."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from ...arguments import RANGES
from .abilities import CANDIDATES

__all__ = [
    "AttentionAnswer",
    "AttentionRequest",
    "ChatRequest",
    "ClassifyAnswer",
    "ClassifyRequest",
    "EntitiesAnswer",
    "EntitiesRequest",
    "ExtractAnswer",
    "ExtractRequest",
    "FillMaskAnswer",
    "FillMaskRequest",
    "GenerateAnswer",
    "GenerateRequest",
    "Health",
    "Model",
    "Piece",
    "Problem",
    "ProblemAnswer",
    "RerankAnswer",
    "RerankRequest",
    "SimilarityAnswer",
    "VectorsAnswer",
    "VectorsRequest",
]

MOST_LAYERS = 256  # maximum number of layers, or of heads, in a request
MOST_TOP_K = 1000
MOST_NGRAM = 64  # largest no_repeat_ngram_size: few sizes compile
MOST_BAD_WORDS = 16


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def ranged(name, default=1.0):
    """Returns a field with the range of an option of `generate`."""
    least, most = RANGES[name]
    return Field(default, ge=least, le=most)


Some = Field(None, max_length=MOST_LAYERS, description="indices, each once; all by default")


class Texts(Request):
    # FailFast: validation ends at the first wrong item
    texts: Annotated[list[str], FailFast()] = Field(min_length=1, description="separate texts")


class FillMaskRequest(Texts):
    """Texts with `[MASK]` where a token is to be predicted."""

    top: int = Field(5, ge=1, le=CANDIDATES, description="candidates for each mask")


class Candidate(BaseModel):
    token: str
    probability: float


class FilledText(BaseModel):
    text: str
    masks: list[list[Candidate]] = Field(description="for each mask, most likely first")


class FillMaskAnswer(BaseModel):
    results: list[FilledText]


class Sampled(Request):
    """The options of generation; see `generate`."""

    max_new_tokens: int | None = Field(None, ge=1, description="64, or fewer if fewer fit")
    sample: bool = Field(False, description="sample tokens; else take the most likely ones")
    temperature: float = ranged("temperature")
    top_k: int | None = Field(None, ge=1, le=MOST_TOP_K)
    top_p: float | None = ranged("top_p", None)
    repetition_penalty: float = ranged("repetition_penalty")
    no_repeat_ngram_size: int = Field(0, ge=0, le=MOST_NGRAM, description="0: any may repeat")
    min_new_tokens: int = ranged("min_new_tokens", 0)
    bad_words: Annotated[list[str], FailFast()] = Field(
        default_factory=list, max_length=MOST_BAD_WORDS, description="texts that are not generated"
    )
    seed: int | None = Field(None, ge=0, lt=2**32, description="random, and returned, by default")
    stream: bool = Field(False, description="server-sent events: piece, ..., piece, end (or error)")


class GenerateRequest(Sampled):
    """A prompt to continue, or a source to answer; see `generate` for the options."""

    text: str


class Message(Request):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Sampled):
    """A conversation to answer; see `chat` for the options."""

    messages: Annotated[list[Message], FailFast()] = Field(min_length=1)
    variables: dict[str, bool | int | float | str] = Field(
        default_factory=dict,
        max_length=16,
        description="variables of the chat template, such as {'enable_thinking': false}",
    )


class Piece(BaseModel):
    """The data of the event `piece`."""

    text: str


class Ending(BaseModel):
    """The data of the event `end`. `score` is the sum of the tokens' log-probabilities."""

    reason: Literal["stop", "length", "time"]
    tokens: int | None = None
    score: float | None = None
    seed: int | None = None


class GenerateAnswer(Ending):
    text: str


class VectorsRequest(Texts):
    pooling: Literal["mean", "cls"] = Field(
        None,
        description="mean of the tokens, or the first state; by default what modules.json of "
        "sentence-transformers says, else mean",
    )


class VectorsAnswer(BaseModel):
    vectors: list[list[float]]


class SimilarityAnswer(BaseModel):
    similarity: list[list[float]] = Field(description="cosines of all pairs of texts")


class ClassifyRequest(Texts):
    """Texts, or pairs of texts."""

    second_texts: Annotated[list[str], FailFast()] = Field(
        None, description="the second text of each pair; none by default"
    )
    top: int = Field(1, ge=1, le=CANDIDATES, description="labels for each text")


class Label(BaseModel):
    label: str
    probability: float = Field(description="of a regression, its value")


class ClassifyAnswer(BaseModel):
    results: list[list[Label]] = Field(description="for each text, most likely first")


class RerankRequest(Request):
    """A query, and passages that may answer it."""

    query: str
    passages: Annotated[list[str], FailFast()] = Field(min_length=1)
    top: int | None = Field(None, ge=1, description="number of passages to return; all by default")
    instruction: str | None = Field(
        None, description="what the passages are for; by default that of the server's --instruction"
    )


class RankedPassage(BaseModel):
    position: int = Field(description="in the request, from 0")
    score: float = Field(description="the model's logit")
    probability: float = Field(description="the sigmoid of the score")
    passage: str


class RerankAnswer(BaseModel):
    results: list[RankedPassage] = Field(description="best first")


class EntitiesRequest(Texts):
    pass


class Entity(BaseModel):
    """`text[start:end]`, in characters."""

    start: int
    end: int
    text: str
    kind: str


class EntitiesAnswer(BaseModel):
    results: list[list[Entity]]


class ExtractRequest(Texts):
    """Texts, and what to look for in them."""

    names: Any = Field(
        alias="schema",  # the base class has an attribute of this name
        description="a name, a list of them, or an object of names and what to look for about each "
        "answer, such as {'人物': ['出生地']}; '情感倾向[正向,负向]' chooses one of the options",
    )
    threshold: float = Field(
        0.5, ge=0, le=1, description="probability above which a token is a start or an end"
    )


class Answer(BaseModel):
    """`text[start:end]`, in characters; an option has no `start` and `end`."""

    text: str
    start: int | None = None
    end: int | None = None
    probability: float
    relations: dict[str, list["Answer"]] | None = Field(
        None, description="what was found about it, if the schema asks for that"
    )


class ExtractAnswer(BaseModel):
    results: list[dict[str, list[Answer]]] = Field(description="for each text, by name")


class AttentionRequest(Request):
    text: str
    layers: list[int] | None = Some
    heads: list[int] | None = Some


class Token(BaseModel):
    """`text[start:end]`, in characters; a special token has an empty span."""

    token: str
    start: int
    end: int


class AttentionAnswer(BaseModel):
    tokens: list[Token]
    layers: list[int]
    heads: list[int]
    weights: list[list[list[list[float]]]] = Field(
        description="[layer][head][from][to], rounded to 4 digits; each row sums to about 1"
    )


class Model(BaseModel):
    name: str
    family: str
    blocks: int
    heads: int
    hidden_size: int
    vocabulary: int
    parameters: int
    mask: str | None
    continues: bool = Field(description="whether generate continues a text (else answers it)")
    entities: list[str] = Field(description="labels of the tagger")
    labels: list[str] = Field(description="labels of the classifier")
    backend: str
    limits: dict[str, float]
    abilities: list[str]
    cannot: dict[str, str] = Field(description="missing ability -> reason")


class Health(BaseModel):
    status: Literal["ready", "closing", "failed", "not started"]
    waiting: int = Field(description="texts in the queue whose client is connected")
    running: int = Field(description="texts being processed whose client is connected")
    abilities: list[str]


class Problem(BaseModel):
    status: int
    field: str | None = Field(None, description="field of the request, such as texts[0]")
    message: str


class ProblemAnswer(BaseModel):
    error: Problem
