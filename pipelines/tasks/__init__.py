"""Loss, metrics, response and scores of each kind of question."""
