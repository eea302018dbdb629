"""The proof: real processes, named faults by a seed, and a checker that believes what was told outside. Top down:

- `series`, `campaign`: many seeds, one run. `plan`, `strikes`: which fault when, and its turn; `faults/`, `stage`.
- `system`, `process`, `wires`, `shim`, `standby`: what is broken, and the means to break it.
- `load`, `clients`, `errands`, `rivals`, `trespass`, `tenants`: callers. `operators`, `desk`: who types commands.
- `kinds`, `deeds`, `ticks`, `beside`, `guests`: jobs of the harness's own. `outside`, `bombs`: subscribers, mail.
- `history`: what was told. `rest`, `observe`, `said`: peace, and what is there. `judges/`, `checker`: the promises.
- `verdict`, `buckets`, `sometimes`, `report`, `timeline`, `evidence`: what is told of a run.
- `mutants/`, `kill_table`: the checker is checked. `recovery/`: how soon all goes on.
"""
