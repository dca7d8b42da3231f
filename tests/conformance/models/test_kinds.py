"""Every kind of model keeps the laws of the public suite."""

from __future__ import annotations

from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.models.loader import KINDS
from sevenfold.models.logistic import LogisticModel
from sevenfold.models.protocol import Model
from sevenfold.models.rule import RuleModel
from sevenfold.testing.model_suite import ModelSuite


class TestRule(ModelSuite):
    def model(self) -> Model:
        return RuleModel(by="signal")


class TestRuleWithTies(ModelSuite):
    def model(self) -> Model:
        return RuleModel(by="signal", then="holes")


class TestLogistic(ModelSuite):
    def model(self) -> Model:
        return LogisticModel()


class TestLightGBM(ModelSuite):
    def model(self) -> Model:
        return LightGBMModel(LightGBMSettings(n_trees=15, min_rows_in_leaf=10))


def test_every_kind_has_a_suite() -> None:
    suites = (TestRule(), TestLogistic(), TestLightGBM())
    assert {suite.model().kind for suite in suites} == set(KINDS)
