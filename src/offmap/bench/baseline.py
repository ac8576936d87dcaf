"""The floor under every table: a bag of words. A monitor that does not beat it has read no more than vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from offmap.chat_template import tools_json
from offmap.conversation import Conversation
from offmap.features import FloatArray


def bag_of_words(fit: Sequence[Conversation], *wanted: Sequence[Conversation]) -> list[FloatArray]:
    """Train TF-IDF words and pairs of words with logistic regression on ``fit``; score each list in ``wanted``.

    It reads what a backbone reads: the tools that were offered and every message, system prompts included. Scores are
    log-odds of unsafe, one float64 for each row.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=50_000, sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10.0, class_weight="balanced"))
    model.fit([_text(row) for row in fit], [bool(row.unsafe) for row in fit])
    return [np.asarray(model.decision_function([_text(row) for row in rows]), np.float64) for rows in wanted]


def _text(row: Conversation) -> str:
    return "\n".join([tools_json(row.tools), *(message.text for message in row.messages)])
