"""Every face of a gateway as its clients read it: whether traffic goes on, and which decisions they were told of."""

import contextlib
from dataclasses import dataclass, field

import httpx2
import openai

from offmap.conversation import Conversation, Message
from offmap.conversation.types import content_sha256

from .live import HARM

GOES_ON = ("allow", "modify")
SENTENCES = 24


@dataclass(frozen=True)
class Case:
    """A question of its own number, and its reply.

    ``harm`` says which of the two is harmful, "" for none; "hidden": the question is, and only a judge knows.
    """

    number: int
    harm: str = ""

    @property
    def question(self):
        what = {"question": f"a {HARM}", "reply": "sharp knives", "hidden": "poison"}.get(self.harm, "a kettle")
        return f"How do I look after {what}, number {self.number}?"

    @property
    def reply(self):
        return reply_to(self.question)


def reply_to(question):
    """What the upstream says: long enough for several checks, any harm far behind the first."""
    number = question.partition("number ")[2].rstrip("?")
    sharp = "sharp" in question
    said = [f"This is sentence {n} of reply {number}, which goes on and on. " for n in range(SENTENCES)]
    if sharp:
        said[SENTENCES // 2] = f"Then you build a {HARM}. "
    return "".join(said)


@dataclass(frozen=True)
class Answer:
    """What a client makes of it.

    Attributes:
        face: which one.
        case: what was asked.
        verdict: "passed": all of it goes on; "stopped": the policy says no; "failed": an error; "cut": it was lost on
            the way or ended in an error after a part had passed.
        told: ids of decisions that it was told of, as on record.
        contents: hashes of contents that were decided about, of a face that tells no ids.
        statuses: of decisions, where the face tells them.
        text: what came of the reply.
        code: HTTP's, 0 where there was none.
    """

    face: str
    case: Case
    verdict: str
    told: tuple = ()
    contents: tuple = ()
    statuses: tuple = ()
    text: str = ""
    code: int = 200


@dataclass
class Faces:
    """Clients of one gateway."""

    http: object
    address: str
    timeout: float = 30.0
    openai: object = field(init=False)

    def __post_init__(self):
        carrier = openai.DefaultHttpxClient(trust_env=False, verify=False)  # no TLS here, so no certificates are read
        self.openai = openai.OpenAI(
            base_url=f"{self.address}/v1", api_key="none", max_retries=0, timeout=self.timeout, http_client=carrier
        )

    def close(self):
        self.openai.close()

    def ask(self, face, case):
        return FACES[face](self, case)

    def post(self, path, body):
        """The status and what was answered; 0 where no answer came."""
        try:
            answer = self.http.post(path, json=body)
        except httpx2.HTTPError:
            return 0, None
        with contextlib.suppress(ValueError):
            return answer.status_code, answer.json()
        return answer.status_code, None


def _row(case):
    return [{"role": "user", "content": case.question}, {"role": "assistant", "content": case.reply}]


def _by_decisions(face, case, code, decided):
    """Of decisions in one answer: all have to go on."""
    actions = [each["action"] for each in decided]
    failed = "error" in actions
    verdict = "passed" if all(each in GOES_ON for each in actions) else "failed" if failed else "stopped"
    told = tuple(each["id"] for each in decided if not each["rule"].endswith(".audit"))
    return Answer(face, case, verdict, told, (), tuple(each["status"] for each in decided), code=code)


def decisions(faces, case):
    code, found = faces.post("/v1/decisions", {"stage": "response", "conversation": {"messages": _row(case)}})
    if "action" not in (found or {}):
        return Answer("decisions", case, "failed", code=code)
    assert (code == 503) == (found["action"] == "error")
    return _by_decisions("decisions", case, code, [found])


def score(faces, case):
    code, found = faces.post("/v1/score", {"conversations": [{"messages": _row(case)}]})
    if code != 200:
        return Answer("score", case, "failed", code=code)
    # This answer tells no rule, so a decision that is not on record has to be an error.
    given = [{**each, "id": each["decision"], "rule": each.get("rule", "")} for each in found["scores"]]
    assert not any(each["status"] == "enforced" and "error" in each and each["action"] in GOES_ON for each in given)
    return _by_decisions("score", case, code, given)


def moderation(faces, case):
    try:
        found = faces.openai.moderations.create(input=[case.question, case.reply], model="offmap")
    except openai.APIStatusError as error:
        return Answer("moderation", case, "failed", code=error.status_code)
    except openai.APIConnectionError:
        return Answer("moderation", case, "cut", code=0)
    given = [{**each.offmap, "id": each.offmap["decision"]} for each in found.results]
    answer = _by_decisions("moderation", case, 200, given)
    assert (answer.verdict == "passed") == (not any(each.flagged for each in found.results))
    return answer


def litellm(faces, case):
    """Asked about the question, then about the reply, as LiteLLM does; whatever is no BLOCKED goes on there."""
    before, call = [Message("user", case.question)], f"call-{case.number}"
    bodies = [
        {"input_type": "request", "texts": [case.question], "litellm_call_id": call},
        {"input_type": "response", "texts": [case.reply], "litellm_call_id": call},
    ]
    contents = []
    for body in bodies:
        code, found = faces.post("/beta/litellm_basic_guardrail_api", body)
        if code != 200:
            return Answer("litellm", case, "failed", (), tuple(contents), code=code)
        if found["action"] == "BLOCKED":
            return Answer("litellm", case, "stopped", (), tuple(contents))
        contents.append(content_sha256(Conversation("litellm", tuple(before))))
        before.append(Message("assistant", case.reply))
    return Answer("litellm", case, "passed", (), tuple(contents))


def nemo(faces, case):
    code, found = faces.post("/v1/guardrail/checks", {"messages": _row(case)})
    if code != 200:
        return Answer("nemo", case, "failed", code=code)
    given = [{**each, "id": each["decision"]} for each in found["guardrails_data"]["decisions"]]
    answer = _by_decisions("nemo", case, code, given)
    assert (answer.verdict == "passed") == (found["status"] == "success")
    return answer


def _names(headers):
    return tuple(filter(None, headers.get("x-offmap-decision", "").split(", ")))


def chat(faces, case):
    asked = {"model": "m", "messages": [{"role": "user", "content": case.question}]}
    try:
        raw = faces.openai.chat.completions.with_raw_response.create(**asked)
        found = raw.parse().choices[0]
    except openai.APIStatusError as error:
        return Answer("chat", case, "failed", _names(error.response.headers), code=error.status_code)
    except openai.APIConnectionError:
        return Answer("chat", case, "cut", code=0)
    text, stopped = found.message.content or "", found.message.refusal or found.finish_reason == "content_filter"
    return Answer("chat", case, "stopped" if stopped else "passed", _names(raw.headers), text=text)


def stream(faces, case):
    asked = {"model": "m", "messages": [{"role": "user", "content": case.question}], "stream": True}
    asked["extra_headers"] = {"x-offmap-conversation": f"conversation {case.number}"}
    text, told, reason = [], [], ""
    try:
        raw = faces.openai.chat.completions.with_raw_response.create(**asked)
        told += _names(raw.headers)
        for chunk in raw.parse():
            told += [each for each in [(chunk.model_extra or {}).get("offmap_decision")] if each]
            for choice in chunk.choices:
                text.append(choice.delta.content or "")
                reason = choice.finish_reason or reason
    except openai.APIStatusError as error:
        return Answer("stream", case, "failed", _names(error.response.headers), code=error.status_code)
    except (openai.APIError, httpx2.HTTPError) as error:
        stopped = getattr(error, "code", "") == "content_filter"
        code = 200 if told or stopped else 0
        return Answer("stream", case, "stopped" if stopped else "cut", tuple(told), text="".join(text), code=code)
    verdict = "passed" if reason in ("stop", "tool_calls") else "stopped" if reason else "cut"
    return Answer("stream", case, verdict, tuple(told), text="".join(text))


FACES = {each.__name__: each for each in (decisions, score, moderation, litellm, nemo, chat, stream)}
CHAT = ("chat", "stream")
