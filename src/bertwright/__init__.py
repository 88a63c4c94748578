"""Pre-trains BERT-style encoders from raw text; the public names, in the order of the walk from text to model."""
