"""The text of a first scenario, to be filled in. A line `#key: value` is a setting to uncomment."""

TEMPLATE = """\
{{ ("fedsim run " ~ file) | comment }}
#
{{ "Written by `fedsim init` for data in which it saw:" | comment }}
{% for line in seen %}
{{ ("  " ~ line) | comment }}
{% endfor %}
#
# Everything that may change results stands in this file. Lines that begin with "# " explain; a
# line "#key: value" is a setting that you can have by deleting its "#". `fedsim list NAME` shows
# the keys of a section or kind, `fedsim validate {{ file }}` points at mistakes, and for completion
# in an editor: fedsim schema > schema.json
version: 1
name: {{ name | yaml }}
description: {{ description | yaml }}

# Decides all that is random: who holds what, the initial model, the order of batches. One seed says
# little about a method: `fedsim study` repeats it and tunes what is compared.
seed: 0

# Times that every site trains and the server aggregates. Watch the curves in the report: still
# rising at the end means more rounds.
rounds: 10

data:
  # Where images and labels come from.
{{ kinds("sources", 2) }}
  source:
{{ source | section(4) }}
{% if kind == "images" %}
    # Larger pictures show more and cost more: try 128 or 224 once the rest works.
    # A picture that is not square gets black bars; `crop` cuts, `stretch` distorts.
    #fit: crop
{% endif %}
  # What is predicted: binary, multiclass, ordinal (grades in ascending order), or regression (a
  # number in a column that the source names as one of its `targets`).
  task: {{ task }}
{% if task == "multiclass" and kind in ("images", "npz") %}
  # Grades? Put class_names above into ascending order, add `ordinal: true` there, and say here
  # `task: ordinal`; metrics may then have quadratic_kappa.
{% endif %}
{% if positive is not none %}
  # The disease, counted from 0: sensitivity is that to {{ classes[positive] | yaml }}. Check this.
  positive_class: {{ positive }}
{% endif %}
  # How pixels become numbers, image by image, so that nothing leaks between them.
{{ kinds("normalisations", 2) }}
  normalisation: {kind: standard, mean: [0.5], std: [0.25]}
  # Changes drawn anew for every training image; flip only what may be mirrored.
  #augmentation: {horizontal_flip: true, max_shift: 2}

population:
{% if site_column %}
  # The sites are those that the data name. Other kinds divide the images over simulated sites, most
  # of which need to be told `num_sites`.
{{ kinds("partitions", 2) }}
  partition: {kind: by_column, column: {{ site_column | yaml }}}
{% else %}
  # Images are divided over simulated hospitals. A smaller alpha makes their class mixes differ
  # more; `kind: iid` makes them alike. With hospitals of your own: a column `site`, and by_column.
{{ kinds("partitions", 2) }}
  num_sites: {{ num_sites }}
  partition: {kind: dirichlet, alpha: 1.0}
{% endif %}
  # Validation images choose the best round, test images judge it. Shares of every site, by class
  # and by whole patients where they are known; or `official`, the splits that the data bring.
  held_out: {{ held_out | yaml }}
  # A scanner of its own for every site, on top of what the images show.
  #appearance: {kind: scanner, severity: mild}
  # A hospital that never trains and is tested on as a whole. Each in turn:
  # fedsim run {{ file }} --leave-one-site-out
  #holdout_sites: [{{ first_site | yaml }}]

# The network that is trained.
{{ kinds("models") }}
# One of MONAI's: {kind: monai, name: ResNet18}.
model: {kind: small_cnn, widths: [16, 32, 64]}

client:
  # What a site does in a round: passes over its images (or `steps`, the same number at every site).
  epochs: 1
  batch_size: {{ batch_size }}
  # The learning rate is the first thing to tune.
{{ kinds("optimizers", 2) }}
  optimizer: {kind: adam, learning_rate: 0.002}
  # What a site minimises. FedLD's margin control: {kind: margin, weight: 0.03}.
{{ kinds("objectives", 2) }}
  objective: {kind: cross_entropy}
  # What holds a site to the others while it trains.
{{ kinds("regularisers", 2) }}
  #regulariser: {kind: proximal, weight: 0.01}
  # A model of its own for each site, by which it is judged.
{{ kinds("personalisations", 2) }}
  #personalisation: {kind: fine_tuning, epochs: 1}

# How the server aggregates the updates of the sites.
{{ kinds("strategies") }}
# {kind: principal_gradient, keep: 0.8} is FedLD's. What to expect of each: docs/strategies.md.
strategy: {kind: weighted_mean, weights: examples}

# How the server steps along the aggregate; without it, the aggregate is added as it is.
{{ kinds("server_optimizers") }}
#server_optimizer: {kind: sgd, momentum: 0.9}

# Without this section nothing promises privacy. With it every site trains with DP-SGD, each
# training image hidden with this epsilon at this delta; `fedsim plan` tells the cost beforehand.
#privacy:
#  mechanism: {kind: example_level, clip_norm: 1.0, noise_multiplier: auto}
#  delta: {{ delta | yaml }}
#  budget: {epsilon: 8, on_budget: stop_site}

evaluation:
  # `fedsim list metrics` has them all. The best round is chosen by select_by, on validation images.
  metrics: {{ metrics | yaml }}
  select_by: auroc

# Is a federation worth it? Beside it one training on all images together, and each site alone.
#baselines: [pooled, local]
"""
