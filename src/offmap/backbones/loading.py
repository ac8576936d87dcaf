"""A model from a directory or the hub: its parts, its precision and the name of its weights. Guards and plain LMs."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from offmap.backbones.guard_families import CLASSIFIER, guard_name
from offmap.backbones.source import BackboneSource, model_path
from offmap.errors import InputError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = ("*.safetensors", "*config.json")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class Loaded:
    """A causal LM, or a classifier on one, ready to run.

    Attributes:
        model: the model with its head.
        decoder: the part that turns token ids into the last hidden states.
        blocks: the decoder's layers.
        tokenizer: its tokenizer.
        dtype: the precision of matrix products.
        positions: the most tokens that the model can read, or None.
        identity: what the weights are: the hash of a directory's files, or a name on the hub and its commit.
        guard: the family of a published guard, or None.
    """

    model: Any
    decoder: torch.nn.Module
    blocks: torch.nn.ModuleList
    tokenizer: Any
    dtype: torch.dtype
    positions: int | None
    identity: str
    guard: str | None = None


def load_model(source: BackboneSource, device: str) -> Loaded:
    """See ``TorchBackbone.load``.

    Raises:
        InputError: as said there.
    """
    from transformers import AutoTokenizer

    model, adapter, place = model_path(source.model), source.adapter, _device(device)
    identity = _identity(model, source.revision, adapter)
    kept = _dtype(source.dtype, place)
    options: dict[str, Any] = {"revision": source.revision, "trust_remote_code": False}
    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, **options)
            guard = _guard(source, model, options)
            stored = torch.float32 if adapter or kept == torch.float32 else "auto"
            lm: Any = _weights(model, guard, dtype=stored, **options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            kind = "classifier" if source.guard == CLASSIFIER else "causal LM"
            raise InputError(f"model {model!r}: cannot be loaded as a {kind}: {error}") from error
        if adapter:
            lm = _merged(lm, adapter)
    lm.eval().requires_grad_(False)
    decoder = lm.get_decoder()
    decoder = getattr(lm, "model", lm) if decoder is lm else decoder
    config = lm.config.get_text_config()
    blocks = next(
        (m for m in decoder.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == config.num_hidden_layers),
        None,
    )
    if blocks is None:
        raise InputError(f"model {model!r}: no list of {config.num_hidden_layers} decoder layers in it")
    _cast(decoder, kept)
    positions = getattr(config, "max_position_embeddings", None)
    return Loaded(lm.to(place), decoder, blocks, tokenizer, kept, positions, identity, guard)


def _guard(source: BackboneSource, model: str, options: dict[str, Any]) -> str | None:
    """The family of the guard that is asked for."""
    from transformers import AutoConfig

    if source.guard is None:
        wrong = next((name for name in ("policy", "unsafe_label") if getattr(source, name) is not None), None)
        if wrong:
            raise InputError(f"{wrong} {getattr(source, wrong)!r}: for guards; guard= its family is wanted")
        return None
    known = AutoConfig.from_pretrained(model, **options).architectures if source.guard == "auto" else []
    return guard_name(source.guard, source.model, known or [])


def _weights(model: str, guard: str | None, **options: Any) -> Any:
    """The model with every weight read: one that the files lack would be random."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind: Any = AutoModelForSequenceClassification if guard == CLASSIFIER else AutoModelForCausalLM
    lm, found = kind.from_pretrained(model, use_safetensors=True, output_loading_info=True, **options)
    if found["missing_keys"]:
        raise ValueError(f"its files lack the weights {sorted(found['missing_keys'])[:3]}")
    if guard == CLASSIFIER and not isinstance(getattr(lm, "score", None), torch.nn.Linear):
        raise InputError(
            f"model {model!r}: {type(lm).__name__}: wanted a classifier on a causal LM, one linear layer `score` over "
            "the last token; an encoder sees the tokens ahead, and its states change with the padding"
        )
    return lm


def _identity(model: str, revision: str | None, adapter: str | None) -> str:
    """What names the weights; changes when they do, and not with the place of a directory."""
    directory = Path(model)
    if directory.is_dir():
        name = f"sha256:{_hash(directory, _WEIGHTS + _TOKENIZER)}"
    elif revision is None:
        raise InputError(
            f"model {model!r}: no such directory; a model of the hub needs revision=<commit>, which pins its weights"
        )
    elif not _COMMIT.fullmatch(revision):
        raise InputError(
            f"model {model!r}: revision: found {revision!r}, wanted a commit of 40 hexadecimal digits "
            "(branches and tags move)"
        )
    else:
        name = f"{model}@{revision}"
    if adapter is None:
        return name
    if not Path(adapter).is_dir():
        raise InputError(f"adapter {adapter!r}: no such directory")
    return f"{name}+{_hash(Path(adapter), _WEIGHTS)}"


def _hash(directory: Path, patterns: tuple[str, ...]) -> str:
    """sha256 over the names and contents of the files that match, 16 digits."""
    files = sorted({file for pattern in patterns for file in directory.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in files):
        raise InputError(f"{directory}: no .safetensors file; other formats of weights are not read")
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _merged(model: Any, adapter: str) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError("an adapter needs peft: pip install 'offmap[adapter]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"adapter {adapter!r}: does not fit the model: {error}") from error


def _cast(decoder: torch.nn.Module, dtype: torch.dtype) -> None:
    """Matrices of linear layers in ``dtype``, all else in float32.

    Under autocast this computes what float32 weights would, without casting them in every pass.
    """
    for module in decoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(dtype)
        else:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r}: {error}") from error


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name not in ("auto", "float32", "bfloat16"):
        raise InputError(f"dtype {name!r}: one of auto, float32, bfloat16 is wanted")
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and _cpu_multiplies_bfloat16()
        name = "bfloat16" if fast else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """Emulated products are slower than float32."""
    return any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers draws progress bars; a library has no terminal."""
    import transformers

    logging: Any = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
