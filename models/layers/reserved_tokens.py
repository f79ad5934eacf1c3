"""Token ids that every vocabulary of the zoo reserves; real tokens follow."""

PADDING, BEGIN, END, UNKNOWN = range(4)
RESERVED = 4
