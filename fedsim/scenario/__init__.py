"""The contract: one scenario describes a whole federated study."""

from fedsim.scenario.cohort import AllSites, Cohort, FixedSize, Poisson
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.scenario.load import from_data, load_scenario, recorded
from fedsim.scenario.population import open_population
from fedsim.scenario.scenario import Client, Data, Evaluation, HeldOut, Scenario, Sites

__all__ = [
    "AllSites",
    "Client",
    "Cohort",
    "Data",
    "Evaluation",
    "FixedSize",
    "FlowerStrategy",
    "HeldOut",
    "Poisson",
    "Scenario",
    "Sites",
    "from_data",
    "load_scenario",
    "open_population",
    "recorded",
]
