"""Model cards: what is known of an architecture without training it, from its code."""
