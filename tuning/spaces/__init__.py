"""What is worth tuning, a file for each application.

``space(configuration)`` returns dimensions by the dotted names of their options, with the
curriculum's priorities: 1 the learning rate; 2 momentum, batch size and hidden units; 3 layers, the
learning rate's decay and Adam's betas; 4 everything else, preprocessing and augmentation among it.
It may name options that only some architectures have.

``OBJECTIVE`` is what trials are compared by: a measure of the validation split that means the same
whatever the dimensions are.
"""
