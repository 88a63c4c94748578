"""What a model does with a text: states, attention, predictions of each layer and their reasons, and a page of it."""
