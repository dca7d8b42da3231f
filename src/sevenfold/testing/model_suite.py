"""The laws that every kind of model keeps, as tests that a model's own test file inherits.

    class TestRule(ModelSuite):
        def model(self) -> Model:
            return RuleModel(by="signal")

pytest then runs every law on it. A model with faults of its own to test adds its own methods.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sevenfold.errors import ArtifactError, InputError
from sevenfold.models.dataset import Dataset
from sevenfold.models.loader import load_model
from sevenfold.models.paths import choose, paths_of
from sevenfold.models.protocol import Model, check_features

__all__ = ["ModelSuite", "refused", "sample_dataset"]

NAMES = ("signal", "noise", "holes", "constant", "never_known")


def sample_dataset(seed: int = 0, n_requests: int = 120, rows: int = 12) -> Dataset:
    """Requests whose labels follow the feature `signal`; `holes` is null in a third of the rows.

    The other features are `noise`, one that is `constant` and one that is `never_known`.
    """
    rng = np.random.default_rng(seed)
    n = n_requests * rows
    x = rng.normal(size=(n, len(NAMES))).astype(np.float32)
    x[rng.random(n) < 1 / 3, 2] = np.nan
    x[:, 3] = 7.0
    x[:, 4] = np.nan
    odds = 2.0 * x[:, 0] + np.nan_to_num(x[:, 2]) - 2.0
    y = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    return Dataset.of(x, y, groups=np.full(n_requests, rows), feature_names=NAMES)


def refused(error: type[Exception], call: Callable[[], object], words: str) -> None:
    """Assert that `call` raises exactly `error` with `words` in its message."""
    message = None
    try:
        call()
    except error as raised:
        message = str(raised)
    assert message is not None, f"nothing was raised, {error.__name__} was expected"
    assert words in message, f"{words!r} is not in the message: {message}"


class ModelSuite:
    """The laws of a model; a subclass gives the unfitted model."""

    def model(self) -> Model:
        """The model to test, unfitted; it is fitted on `sample_dataset()`."""
        raise NotImplementedError

    def fitted(self, seed: int = 3) -> Model:
        """The model fitted on the sample."""
        return self.model().fit(sample_dataset(), np.random.default_rng(seed))

    def test_it_learns_the_order(self) -> None:
        """On new rows, positives score above negatives more often than not."""
        data = sample_dataset(seed=1)
        scores = self.fitted().scores(data.x)
        positive, negative = scores[data.y == 1], scores[data.y == 0]
        assert (positive[:, None] > negative[None, :]).mean() > 0.7

    def test_scores_are_finite_float64_in_the_order_of_the_rows(self) -> None:
        """Scores have the shape promised, whatever is null."""
        x = sample_dataset(seed=1).x
        x[:5] = np.nan
        scores = self.fitted().scores(x)
        assert scores.dtype == np.float64
        assert scores.shape == (len(x),)
        assert np.isfinite(scores).all()
        assert self.fitted().scores(x[:0]).shape == (0,)

    def test_a_batch_equals_its_rows_bit_for_bit(self) -> None:
        """What a row scores does not depend on the rows around it."""
        model, x = self.fitted(), sample_dataset(seed=1, n_requests=10).x
        whole = model.scores(x)
        alone = np.concatenate([model.scores(x[i : i + 1]) for i in range(len(x))])
        sliced = np.concatenate([model.scores(x[i : i + 7]) for i in range(0, len(x), 7)])
        strided = model.scores(np.asfortranarray(x))
        assert whole.tobytes() == alone.tobytes() == sliced.tobytes() == strided.tobytes()

    def test_a_loaded_model_scores_the_same_bits(self, tmp_path: Path) -> None:
        """Saving and loading changes nothing, directly and by the closed table of kinds."""
        model, x = self.fitted(), sample_dataset(seed=1).x
        model.save(tmp_path / "model")
        for loaded in (type(model).load(tmp_path / "model"), load_model(tmp_path / "model")):
            assert type(loaded) is type(model)
            assert loaded.feature_names == model.feature_names
            assert loaded.scores(x).tobytes() == model.scores(x).tobytes()

    def test_every_way_to_score_gives_the_same_bits(self, tmp_path: Path) -> None:
        """Whichever path a server chooses for the loaded model, its scores are the model's."""
        self.fitted().save(tmp_path / "model")
        model, x = load_model(tmp_path / "model"), sample_dataset(seed=1).x
        for path in paths_of(model)[0]:
            assert path.scores(x).tobytes() == model.scores(x).tobytes(), path.name
            refused(InputError, lambda path=path: path.scores(x[:, :-1]), "give float32")  # type: ignore[misc]
        assert choose(model).path.name not in choose(model).refused

    def test_saving_twice_gives_the_same_files(self, tmp_path: Path) -> None:
        """An artifact is a function of the model, and so is that of the loaded model."""
        model = self.fitted()
        model.save(tmp_path / "a")
        load_model(tmp_path / "a").save(tmp_path / "b")
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
        for name in names:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_the_same_seed_gives_the_same_model(self, tmp_path: Path) -> None:
        """All randomness comes from `rng`."""
        x = sample_dataset(seed=1).x
        assert self.fitted(5).scores(x).tobytes() == self.fitted(5).scores(x).tobytes()

    def test_fitting_leaves_the_model_and_the_data_as_they_were(self) -> None:
        """A model is a value: `fit` gives a new one and writes into nothing it was given."""
        model, data = self.model(), sample_dataset()
        before = data.fingerprint()
        model.fit(data, np.random.default_rng(0))
        assert data.fingerprint() == before
        assert model.feature_names == ()
        refused(InputError, lambda: model.scores(data.x), "has not been fitted")

    def test_scoring_leaves_the_rows_as_they_were(self) -> None:
        """Rows are read, not written, and may be read-only."""
        x = sample_dataset(seed=1).x
        before = x.tobytes()
        x.flags.writeable = False
        self.fitted().scores(x)
        assert x.tobytes() == before

    def test_features_are_checked_by_name(self) -> None:
        """Columns in another order, missing or unknown are refused with their names."""
        model = self.fitted()
        check_features(model, NAMES)
        swapped = (NAMES[1], NAMES[0], *NAMES[2:])
        refused(InputError, lambda: check_features(model, swapped), "column 0 is 'noise'")
        refused(InputError, lambda: check_features(model, NAMES[1:]), "missing ['signal']")
        refused(InputError, lambda: check_features(model, (*NAMES, "more")), "['more']")

    def test_rows_of_another_shape_or_type_are_refused(self) -> None:
        """Nothing is cast, cut or filled behind the caller's back."""
        model, x = self.fitted(), sample_dataset(seed=1).x
        refused(InputError, lambda: model.scores(x[:, :-1]), "give float32")
        refused(InputError, lambda: model.scores(x[0]), "give float32")
        refused(InputError, lambda: model.scores(x.astype(np.float64)), "give float32")
        infinite = x.copy()
        infinite[3, 1] = np.inf
        refused(InputError, lambda: model.scores(infinite), "['noise']")

    def test_an_artifact_is_written_once(self, tmp_path: Path) -> None:
        """A folder that holds files is not written over."""
        model = self.fitted()
        model.save(tmp_path)
        refused(ArtifactError, lambda: model.save(tmp_path), "not empty")

    def test_every_damaged_file_is_refused(self, tmp_path: Path) -> None:
        """Cut, emptied, missing or exchanged for a link: an ArtifactError, nothing else."""
        model = self.fitted()
        model.save(tmp_path / "good")
        for name in sorted(path.name for path in (tmp_path / "good").iterdir()):
            raw = (tmp_path / "good" / name).read_bytes()
            for case, content in enumerate((raw[: len(raw) // 2], b"", None, raw)):
                folder = tmp_path / f"{name}-{case}"
                model.save(folder)
                (folder / name).unlink()
                if case == 3:
                    (folder / name).symlink_to(tmp_path / "good" / name)
                elif content is not None:
                    (folder / name).write_bytes(content)
                refused(ArtifactError, lambda folder=folder: load_model(folder), name)  # type: ignore[misc]
