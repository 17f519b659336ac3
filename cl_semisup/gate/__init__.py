"""The gate: has a loss, its training or its results changed since a stored reference?

    function     value and gradient on fixed inputs, float64                             seconds, exact
    trajectory   20 steps on free embeddings and of every cell of the suite, float64     seconds, exact
    outcome      scores, final losses and stable learning rates, paired by seed          a minute, statistical

A gate suite is an ordinary suite; its reference lies beside it: `gate.yaml` and `gate.reference.json`. The exact tiers
compare to 1e-8: other threads, instruction sets or torch versions change them by 1e-14, the smallest fault by 1e-4.
"""
