"""The life of a job: what it may become, who moves it, and the SQL that guards each move."""
