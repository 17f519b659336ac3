"""Which runs come next when a suite asks for an edge instead of a grid. Decisions depend on finished rounds only."""
