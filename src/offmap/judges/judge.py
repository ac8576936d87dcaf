"""A judge: a chat model that grades conversations by a rubric, as a backbone whose only feature is that grade.

What becomes of a conversation without a grade: an answer without a score is asked for once more and is then NaN, and
so is a conversation that the endpoint refuses to read. Both would be so again, so a cache may keep them. An endpoint
that fails raises ``EndpointError`` instead, after its retries: ``feature_store.Cached`` then stores nothing of that
call, and an outage never freezes into "unscored". What the judge had answered by then is paid for and stays in its
memory; the same call, made again on the same judge, asks only for the rest.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from threading import Lock
from typing import Literal

import msgspec
import numpy as np

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, FloatArray
from offmap.judges.client import ChatClient, EndpointError, JudgeSource, RefusedError, Reply
from offmap.judges.rubric import REMINDER, UNCERTAINTY, Rubric

BEST = 100.0
"""The grade of what is surely within the constitution."""
_SCORE = re.compile(r"SCORE: (100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?)")
_PUBLISHED_SCORE = re.compile(r"score:\s*(100(?:\.0+)?|\d{1,2}(?:\.\d+)?)", re.IGNORECASE)
_PUBLISHED_TRIES = 4
_SMALL = Conversation("", (Message("user", "Hello."), Message("assistant", "Hello! How can I help?")))
_log = logging.getLogger(__name__)


class Tally(msgspec.Struct, frozen=True):
    """What became of the conversations that a judge was asked about; those that a cache had are not among them.

    Attributes:
        asked: conversations.
        retried: had no score in the first answer.
        unparsable: had none in any: NaN, or as suspicious as can be in the reference mode.
        refused: the endpoint would not read, too long or filtered: NaN.
    """

    asked: int = 0
    retried: int = 0
    unparsable: int = 0
    refused: int = 0

    def __add__(self, other: Tally) -> Tally:
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Tally(*(a + b for a, b in pairs))


class Judge:
    """A chat model with a rubric. Higher means more suspicious: the scalar is 100 minus the grade.

    It does not tokenise: ``n_tokens`` and ``n_dropped`` are 0, and it has no hidden states and no token columns. A
    text that is too long for the model is refused by the endpoint, never cut here. Safe to call from several threads.

    Attributes:
        source: the model and how it is asked.
        rubric: the question.
        scalars: names of the scalars that it gives: that of the rubric.
        fingerprint: model, revision, rubric (a hash of its wording), temperature, length of answers, and how they are
            read. The address is not in it, so that a monitor and its cache move with the model: where two endpoints
            call different models by one name, give each a ``revision``.
        tally: what became of what it was asked, since it was made.
    """

    def __init__(
        self,
        source: JudgeSource,
        rubric: Rubric = UNCERTAINTY,
        *,
        reference: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Make a judge; nothing is sent until it is called.

        Args:
            source: the model and how it is asked.
            rubric: the question.
            reference: read answers as MOOD's package does, for comparison only: the first ``SCORE: n`` anywhere counts,
                a cut answer counts, a missing one is asked for three times more, and then the conversation is as
                suspicious as can be. That is a fault of the published recipe: a few safe conversations so treated
                fill the top of the ranking (1.5 % of them leave no recall at 1 % false positives). Published with
                temperature 1 and 256 tokens; the prompt is ours in either mode.
            progress: told, now and then, how many more conversations are done.

        Raises:
            InputError: the extra ``judge`` is not installed, or the variable for the key is not set.
        """
        self.source, self.rubric, self._reference = source, rubric, reference
        self._client, self._progress = ChatClient(source), progress
        self.scalars = frozenset({rubric.name})
        self.fingerprint = (
            f"judge={source.model} revision={source.revision} rubric={rubric.name}:{rubric.digest}"
            f" temperature={source.temperature} max_tokens={source.max_tokens}"
            f" answers={'reference' if reference else 'strict'}"
        )
        self.tally = Tally()
        self._pool = ThreadPoolExecutor(source.concurrency, thread_name_prefix="judge")
        self._lock, self._works = Lock(), False
        self._paid: dict[str, _Graded] = {}

    def __call__(self, batch: Sequence[Conversation], spec: FeatureSpec) -> Features:
        """The grades of each conversation; no request is made where ``spec`` wants none.

        Raises:
            InputError: ``spec`` wants what no judge or not this one gives; the endpoint knows neither key nor model,
                or refuses even a small question.
            EndpointError: some conversation got no answer after all retries.
        """
        self._require(spec)
        scalars = {self.rubric.name: self._scores(batch)} if spec.scalars else {}
        return Features(
            tuple(c.id for c in batch),
            tuple(c.domain for c in batch),
            np.zeros(len(batch), np.int32),
            np.zeros(len(batch), np.int32),
            np.array([len(c.messages) for c in batch], np.int32),
            np.array([c.has_tools for c in batch], bool),
            scalars=scalars,
        )

    def _require(self, spec: FeatureSpec) -> None:
        if spec.hidden or spec.tokens:
            raise InputError(f"{spec.canonical()}: a judge gives no hidden states and no token columns, only scalars")
        if not spec.scalars <= self.scalars:
            raise InputError(f"scalars {sorted(spec.scalars - self.scalars)}: this judge gives {sorted(self.scalars)}")

    def _scores(self, batch: Sequence[Conversation]) -> FloatArray:
        prompts = [self.rubric.prompt(conversation) for conversation in batch]
        graded = self._ask_all(prompts, [conversation.id for conversation in batch])
        rows = [graded[prompt] for prompt in prompts]
        self._count(rows, [c.id for c, row in zip(batch, rows, strict=True) if row.fault])
        return np.array([BEST - row.grade for row in rows], dtype=np.float64)

    def _ask_all(self, prompts: list[str], ids: list[str]) -> dict[str, _Graded]:
        """The grade of each prompt; equal ones are asked once. What was answered outlives a failure."""
        rows, id_of = Counter(prompts), dict(zip(prompts, ids, strict=True))
        with self._lock:
            graded = {prompt: self._paid[prompt] for prompt in rows if prompt in self._paid}
        missing = [prompt for prompt in rows if prompt not in graded]
        asked = {self._pool.submit(self._grade, prompt, id_of[prompt]): prompt for prompt in missing}
        try:
            for answer in as_completed(asked):
                graded[asked[answer]] = answer.result()
                if self._progress:
                    self._progress(rows[asked[answer]])
        except (EndpointError, InputError):
            _cancel(asked)
            wait(asked)
            done = (answer for answer in asked if not answer.cancelled() and not answer.exception())
            with self._lock:
                self._paid |= {asked[answer]: answer.result() for answer in done}
            raise
        finally:
            _cancel(asked)
        with self._lock:
            for prompt in rows:
                self._paid.pop(prompt, None)
        return graded

    def _grade(self, prompt: str, identity: str) -> _Graded:
        question = prompt
        tries = _PUBLISHED_TRIES if self._reference else 2
        for attempt in range(tries):
            try:
                reply = self._client.ask(question)
            except RefusedError as error:
                self._require_working(error)
                return _Graded(math.nan, attempt, "refused")
            except EndpointError as error:
                raise EndpointError(f"conversation {identity!r}: {error}") from error
            self._works = True
            grade = read_grade_as_published(reply) if self._reference else read_grade(reply)
            if not math.isnan(grade):
                return _Graded(grade, attempt)
            question = prompt if self._reference else prompt + REMINDER
        return _Graded(0.0 if self._reference else math.nan, tries - 1, "unparsable")

    def _require_working(self, error: RefusedError) -> None:
        """Tell a conversation that is refused from a judge that is set up wrong, by one small question.

        Raises:
            InputError: the endpoint refuses that as well.
        """
        with self._lock:
            if not self._works:
                try:
                    self._client.ask(self.rubric.prompt(_SMALL))
                except RefusedError:
                    raise InputError(f"{error}; a small question is refused as well: wanted other settings") from error
                self._works = True

    def _count(self, rows: list[_Graded], unscored: list[str]) -> None:
        faults = Counter(row.fault for row in rows)
        retried = sum(row.retries > 0 for row in rows)
        new = Tally(len(rows), retried, faults["unparsable"], faults["refused"])
        with self._lock:
            self.tally += new
        if unscored:
            became = "count as most suspicious, a fault of the reference" if self._reference else "are unscored"
            _log.warning(
                "judge %s, %s: %d conversations: %d without a score %s; %d refused are unscored; the first: %s",
                self.source.model, self.rubric.name, new.asked, new.unparsable, became, new.refused, unscored[:5],
            )  # fmt: skip


class _Graded(msgspec.Struct, frozen=True):
    """A grade from 0 to 100, or NaN; how many more answers it took; why there is none."""

    grade: float
    retries: int
    fault: Literal["", "unparsable", "refused"] = ""


def read_grade(reply: Reply) -> float:
    """The number of an answer whose last line is ``SCORE: n``, n from 0 to 100; else NaN. A cut answer has none."""
    found = _SCORE.fullmatch(reply.text.rstrip().rpartition("\n")[2]) if reply.whole else None
    return float(found[1]) if found else math.nan


def read_grade_as_published(reply: Reply) -> float:
    """As MOOD's package reads an answer: the first thing that looks like a score, wherever it stands; else NaN."""
    found = _PUBLISHED_SCORE.search(reply.text)
    return float(found[1]) if found else math.nan


def _cancel(asked: dict[Future[_Graded], str]) -> None:
    for answer in asked:
        answer.cancel()
