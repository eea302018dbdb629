"""Stock: never oversold, every movement in an append-only ledger."""
