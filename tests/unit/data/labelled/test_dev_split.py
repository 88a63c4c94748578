"""Rows held out of a training file: by hash, equal texts together, every class its share to within a row."""

from __future__ import annotations

import numpy as np
import pytest

from bertwright.data.labelled.dev_split import dev_rows, fold_numbers


def keys_of(count: int, *, repeated: int = 1) -> list[str]:
    return [f"text {place // repeated}" for place in range(count)]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.37])
@pytest.mark.parametrize("repeated", [1, 2])
def test_each_class_gives_its_share_to_within_a_row(fraction: float, repeated: int) -> None:
    random = np.random.default_rng(0)
    classes = np.repeat(random.choice(4, p=[0.6, 0.3, 0.08, 0.02], size=600), repeated)
    keys = keys_of(len(classes), repeated=repeated)
    held = dev_rows(keys, classes, fraction=fraction)
    for one in range(4):
        assert abs(held[classes == one].sum() - fraction * (classes == one).sum()) <= repeated
        assert (~held[classes == one]).any()
    assert held.sum() == pytest.approx(fraction * len(keys), abs=0.5 if repeated == 1 else 8)


def test_equal_texts_stay_on_one_side_whatever_their_blanks_and_labels() -> None:
    random = np.random.default_rng(1)
    numbers = random.integers(100, size=500)
    keys = [f"text {' ' * int(random.integers(3))}{number} " for number in numbers]
    held = dev_rows(keys, random.integers(2, size=500), fraction=0.2)
    assert 80 <= held.sum() <= 100
    for number in range(100):
        assert len(set(held[numbers == number].tolist())) <= 1


def test_it_goes_by_the_text_alone() -> None:
    keys, classes = keys_of(400), np.arange(400) % 3
    held = dev_rows(keys, classes, fraction=0.1)
    order = np.random.default_rng(2).permutation(400)
    again = dev_rows([keys[place] for place in order], classes[order], fraction=0.1)
    assert (again == held[order]).all()
    one_more = dev_rows([*keys, "new"], np.append(classes, 0), fraction=0.1)
    assert (one_more[:-1] != held).sum() <= 4  # where it is held out, or a class may hold out one more


def test_several_labels_a_row() -> None:
    random = np.random.default_rng(3)
    classes = (random.random((1000, 5)) < [0.5, 0.3, 0.1, 0.05, 0.005]).astype(np.float32)
    held = dev_rows(keys_of(1000), classes, fraction=0.2)
    for label in range(5):
        count = classes[:, label].sum()
        assert abs(classes[held, label].sum() - 0.2 * count) <= max(1.0, 0.02 * count)
        assert classes[~held, label].any()


def test_groups_of_all_sizes_and_few_rows() -> None:
    keys = [f"context {place}" for place in range(20) for _ in range(1 + place % 5)]
    held = dev_rows(keys, None, fraction=0.2)
    assert 9 <= held.sum() <= 12
    assert dev_rows(["a"] * 5 + ["b"] * 3, None, fraction=0.1).tolist() == [False] * 5 + [True] * 3
    assert dev_rows(["a", "b", "c"], np.array([0, 1, 1]), fraction=0.1).tolist().count(True) == 1
    assert not dev_rows(["a", "b", "c"], np.array([0, 1, 1]), fraction=0.1)[0]  # class 0 must be learned
    for keys, classes in (
        (["a", "a "], None),
        (["a"] * 9 + ["b"] * 9, np.repeat([0, 1], 9)),
        (["a", "b"], np.arange(2)),
    ):
        with pytest.raises(ValueError, match="group"):
            dev_rows(keys, classes, fraction=0.5)


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_hold_equal_shares_of_each_class(folds: int) -> None:
    random = np.random.default_rng(folds)
    classes = random.choice(3, p=[0.7, 0.25, 0.05], size=1000)
    keys = keys_of(1000)
    numbers = fold_numbers(keys, classes, folds=folds)
    for one in range(3):
        counts = np.bincount(numbers[classes == one], minlength=folds)
        assert counts.max() - counts.min() <= 2
    assert np.ptp(np.bincount(numbers, minlength=folds)) <= 1
    order = random.permutation(1000)
    assert (fold_numbers([keys[place] for place in order], classes[order], folds=folds) == numbers[order]).all()


def test_rows_that_belong_together_are_in_one_fold() -> None:
    keys = keys_of(300, repeated=3)
    numbers = fold_numbers(keys, None, folds=5).reshape(-1, 3)
    assert (numbers == numbers[:, :1]).all()
    assert np.ptp(np.bincount(numbers[:, 0])) <= 1
    with pytest.raises(ValueError, match="row"):
        fold_numbers(["a", "b"], None, folds=3)
