"""What a model does with a text: its states, attention, predictions of each layer and their causes, and a page of them."""
