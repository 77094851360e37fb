"""What a node says inside a stream is of the client's dialect, and ends it where it is an error."""

from __future__ import annotations

from meshnode.dialects import CHAT, KEEPALIVE, SoundStream
from meshnode.dialects.speech import speech_of
from meshnode.errors import PeerFailed


def test_openai_is_kept_alive_by_comments_and_ends_with_an_error_event() -> None:
    speech = speech_of(CHAT)
    assert speech.keepalive == KEEPALIVE
    stream = SoundStream()
    stream.feed(speech.error(PeerFailed("lost")))
    assert stream.end().failed
