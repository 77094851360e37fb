"""How requests, answers and errors are spelled for clients and between nodes. Pure.

Not for sending (front) nor for serving (engine). Counterparts: model.job, model.answer, errors.
"""

from meshnode.dialects.blame import from_engines_event, of_engine
from meshnode.dialects.demands import read_demands
from meshnode.dialects.facts import CHAT, COMPLETION, EMBEDDINGS, read_facts, rewrite_model
from meshnode.dialects.openai import ModelCard, cards, model_body, model_list, not_found, with_aliases, with_outside
from meshnode.dialects.sound import Judge, SoundStream, Unjudged, judge_of
from meshnode.dialects.sse import (
    KEEPALIVE,
    StreamEnd,
    Usage,
    WholeEvents,
    first_event_is_error,
)
from meshnode.dialects.status import event_error, from_event, from_wire, http_error, http_problem, to_wire

__all__ = [
    "CHAT",
    "COMPLETION",
    "EMBEDDINGS",
    "KEEPALIVE",
    "Judge",
    "ModelCard",
    "SoundStream",
    "StreamEnd",
    "Unjudged",
    "Usage",
    "WholeEvents",
    "cards",
    "event_error",
    "first_event_is_error",
    "from_engines_event",
    "from_event",
    "from_wire",
    "http_error",
    "http_problem",
    "judge_of",
    "model_body",
    "model_list",
    "not_found",
    "of_engine",
    "read_demands",
    "read_facts",
    "rewrite_model",
    "to_wire",
    "with_aliases",
    "with_outside",
]
