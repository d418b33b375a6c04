"""The contract: one scenario describes a whole federated study."""

from fedsim.scenario.cohort import AllSites, Cohort, Cyclic, FixedSize, Poisson
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.scenario.load import from_data, load_scenario, read_draft, recorded
from fedsim.scenario.messages import Problem, UnmetError
from fedsim.scenario.population import completed, open_population
from fedsim.scenario.rules import broken
from fedsim.scenario.scenario import Client, Data, Evaluation, HeldOut, Scenario, Sites

__all__ = [
    "AllSites",
    "Client",
    "Cohort",
    "Cyclic",
    "Data",
    "Evaluation",
    "FixedSize",
    "FlowerStrategy",
    "HeldOut",
    "Poisson",
    "Problem",
    "Scenario",
    "Sites",
    "UnmetError",
    "broken",
    "completed",
    "from_data",
    "load_scenario",
    "open_population",
    "read_draft",
    "recorded",
]
