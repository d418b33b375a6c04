"""What the runs of a study say together: numbers, tests, and the sentences that they support.

`compare` reads a study folder and returns the content of its `comparison.json`, plain data; every
undefined value is null. What is estimated, resampled, tested and corrected is in
docs/statistics.md.

    format              int
    question            str
    primary             metric, split, pooled, model, reference, smallest_difference_of_interest,
                        higher_is_better, target, confidence, power, test, correction, tie_below,
                        confirmatory (null: all)
    methods, settings, seeds, metrics    names (seeds: integers) as planned, primary metric first
    values              [{setting, method, metric, seed, value}]
    summary             [{setting, method, metric, num_seeds, mean, sd, low, high}], Student's t
    primary_intervals   [{setting, method, mean, low, high, difference_low, difference_high,
                        num_seeds, num_resamples, unit}], bootstrap over seeds and images or
                        patients; the difference is to the reference, in the same resamples
    differences         [{setting, method, metric, num_pairs, mean, sd, low, high, confidence, p,
                        p_adjusted, p_exact, wins, ties, losses, verdict, sentence}], method minus
                        reference; low and high hold for all comparisons of the metric together; of
                        methods that are not confirmatory for one alone, without p, verdict "not
                        tested"
    ranks               [{method, mean_rank}]; with critical_difference, rank_blocks, rank_p,
                        rank_note beside it
    time_to_target      [{setting, method, seed, rounds, virtual_s, bytes}], null if never reached
    time_summary        [{setting, method, num_reached, num_seeds, median_rounds, median_virtual_s,
                        median_bytes}]
    traffic             [{setting, method, bytes_down, bytes_up}], mean over seeds
    worst_site          [{setting, method, seed, site, value, num_sites}]
    worst_site_summary  [{setting, method, num_seeds, mean, sd, low, high}]
    yardsticks          [{setting, yardstick, metric, num_seeds, mean, sd, low, high, trained_as,
                        paid_as}]; method whose objective and optimiser it has, and the same if
                        each site spends its epsilon alone, null without privacy
    epsilons            [{setting, method, seed, site, unit, num_units, delta, epsilon}], of methods
                        with a ledger; epsilon null: infinite
    epsilon_summary     [{setting, method, unit, num_seeds, delta, lowest, highest}], over sites and
                        seeds; null: infinite
    subgroups           [{setting, method, attribute, group, num_seeds, mean, sd, low, high}], the
                        primary metric on the test images of a group; group null: the gap between
                        the best and the worst group of each seed
    subgroup_costs      [{setting, method, attribute, group, versus, num_seeds, mean, sd, low,
                        high}]; versus null: method minus reference within the group; else that
                        minus the same of the group versus
    join                [{setting, method, trained_as, paid_as, site, num_train, num_seeds,
                        gain_over_alone, low, high, gain_over_pooled, probability_of_harm, harm_low,
                        harm_high}]; trained_as, paid_as: of the model alone; site "pooled": over
                        all sites
    calibration         [{setting, method, num_seeds, ece, low, high, of, bins [{said, seen,
                        count}]}]
    decision_curves     [{setting, method, num_seeds, thresholds, net_benefit, low, high,
                        treat_all}], lists along the thresholds; binary tasks alone
    tuned               [{setting, method, values, validation_value, num_trials, num_failed}]
    failures            [{cell, setting, method, seed, error}]
    power               num_seeds, num_comparisons, alpha, power, smallest_difference_of_interest,
                        exact_test_seeds, rows [{setting, method, num_pairs, sd, detectable,
                        seeds_needed, cautious_seeds_needed}]
    sentences           [str]
"""

from fedsim.comparison.bounds import within_bounds
from fedsim.comparison.compare import compare, foresee
from fedsim.comparison.tables import tables

__all__ = ["compare", "foresee", "tables", "within_bounds"]
