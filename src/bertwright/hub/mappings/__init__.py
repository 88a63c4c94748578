"""Names of weights and settings, here and at Hugging Face."""
