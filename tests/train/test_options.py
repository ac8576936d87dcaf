"""What is refused before any work is done, and what ``auto`` means."""

import msgspec
import pytest

from offmap.detectors import GuardProbe
from offmap.errors import InputError
from offmap.train import TrainOptions
from offmap.train.options import RATES, SMALL

NAN = float("nan")
WRONG = {
    "rank": (0, -1),
    "batch_tokens": (0,),
    "accumulate": (0,),
    "patience": (0,),
    "evaluations": (0,),
    "seed": (-1,),
    "epochs": (0, -1.0, 1000.5, NAN),
    "lm_weight": (-0.1, float("inf"), NAN),
    "rate": (0, 1, -1e-3, NAN),
    "head_rate": (0, 1.0, NAN),
    "validation": (0, 0.51, NAN),
    "max_tokens": (1, 0, -5),
}
RIGHT = {
    "rank": 1, "batch_tokens": 1, "accumulate": 1, "patience": 1, "evaluations": 1, "seed": 0, "epochs": 1000,
    "lm_weight": 0, "rate": 0.99, "head_rate": 1e-9, "validation": 0.5, "max_tokens": 2,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_number_out_of_its_range_is_named_with_what_was_found(name, value):
    with pytest.raises(InputError, match=rf"^{name} is {value:g}; .* wanted$"):
        TrainOptions(**{name: value}).check()


def test_the_ends_of_the_ranges_are_in_them():
    TrainOptions().check()
    TrainOptions(**RIGHT).check()
    assert RIGHT.keys() == WRONG.keys()


def test_auto_is_full_for_a_small_trunk():
    assert [TrainOptions().method_for(n) for n in (1, SMALL - 1, SMALL, 7 * SMALL)] == ["full", "full", "lora", "lora"]
    assert TrainOptions(method="lora").method_for(1) == "lora"
    assert TrainOptions(method="full").method_for(7 * SMALL) == "full"
    assert RATES.keys() == {"full", "lora"}


def test_options_go_through_a_file():
    options = TrainOptions(heads=GuardProbe(layers=(-2,), heads=3), epochs=3, rate=1e-4)
    assert msgspec.json.decode(msgspec.json.encode(options), type=TrainOptions) == options
