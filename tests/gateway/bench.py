"""A gateway, what stands behind it, and clients of all its faces, for tests that break one of them."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import msgspec

from offmap.gateway.config import JudgeMonitor, MonitorTable, Step, Upstream
from offmap.gateway.monitors import Running
from offmap.gateway.opening import SafeScores, open_monitor

from . import behind
from .faces import FACES, Case, Faces
from .live import ANSWER_SECONDS, Live, gateway_of

AT_ONCE = 24
NUMBERS = itertools.count()


class Bench:
    """A gateway, what stands behind it, and clients of all its faces."""

    def __init__(self, place, policy, url, judged=False):
        self.policy, self.url, self.place = policy, url, place
        self.upstream = behind.Behind(behind.chats)
        self.judge = behind.Behind(behind.judges) if judged else None
        more = self._with_judge(place) if judged else {}
        gateway = gateway_of(url, policy, upstream=Upstream(self.upstream.url, "", ANSWER_SECONDS), **more)
        if judged:  # its faults are not the disk's, which may stand still for longer than the others' are given
            gateway = msgspec.structs.replace(gateway, audit=msgspec.structs.replace(gateway.audit, timeout_ms=5000))
        self.live = Live(gateway, self._opened(gateway))
        self.faces = Faces(self.live.client, self.live.address)
        self.pool = ThreadPoolExecutor(AT_ONCE)

    def _with_judge(self, place):
        """A cascade in which the judge has the last word about whatever the monitor does not know."""
        (place / "judges.toml").write_text(
            f'[[judge]]\nname = "j"\nmodel = "m"\nbase_url = "{self.judge.url}"\nretries = 0\ntimeout = 0.3\n'
        )
        kept, milliseconds = place / "safe.json", 1000 * ANSWER_SECONDS
        table = MonitorTable(judge=JudgeMonitor(f"{place}/judges.toml", "j", str(kept)), timeout_ms=milliseconds)
        from offmap.judges import Judge
        from offmap.judges.config import read_judges

        (config,) = read_judges(table.judge.file)
        fingerprint = Judge(config.open_model(), config.open_prompt()).fingerprint
        kept.write_bytes(msgspec.json.encode(SafeScores(fingerprint, (0.0,) * 999)))
        steps = (Step("fake", unsafe=(0.001, 0.9), unknown=(0.001, 0.001)), Step("judge"))
        return {"steps": steps, "tables": {"judge": table}.items()}

    def _opened(self, gateway):
        if self.judge is None:
            return {}
        table = gateway.monitors["judge"]
        opened = open_monitor(table, "judge")
        return {"judge": Running("judge", opened, timeout=table.timeout_ms / 1000, limits=gateway.limits)}

    def ask(self, harms, faces=tuple(FACES)):
        """The answers of every face to a case of each kind, asked at once."""
        asked = [(face, Case(next(NUMBERS), harm)) for harm in harms for face in faces]
        return list(self.pool.map(lambda each: self.faces.ask(*each), asked))

    def serves(self):
        """Whether everything harmless passes, and, where the policy enforces it, nothing harmful does."""
        answers = self.ask(("", "hidden") if self.judge else ("", "question"))
        wanted = ["passed" if not each.case.harm or self.policy == "shadow" else "stopped" for each in answers]
        return [each.verdict for each in answers] == wanted, answers

    def close(self):
        self.pool.shutdown()
        self.faces.close()
        self.live.close()
        for each in filter(None, (self.upstream, self.judge)):
            each.close()
