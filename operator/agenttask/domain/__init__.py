"""Pure decisions: the step graph, the template language, validation, placement; no I/O, no clock."""
