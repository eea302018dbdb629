"""The proof: real processes, named faults by a seed, and a checker that sees only what anybody outside could see."""
