"""One function a verb, with the names and defaults of the command line; each is imported when it is first used."""

VERBS = {
    "quickstart": "The whole walk on the documentation of your own Python, offline, in under five minutes.",
    "prepare": "Turn raw text into data: vocabulary, token ids, sentence and word boundaries.",
    "doctor": "Examine text or data before training: what will hurt, and the flag that fixes it.",
    "plan": "Say what hours on a machine buy: size, steps, expected loss, memory and cost.",
    "pretrain": "Train a BERT on prepared data.",
    "evaluate": "Evaluate a trained model on held-out data.",
    "finetune": "Train a pre-trained model for a task, and evaluate it.",
    "tune": "Search settings and models for a task, or settings of pre-training, within a limit of time.",
    "distill": "Train a small model that answers nearly as a large one does.",
    "predict": "Predict masked words, next sentences, or what a model was fine-tuned for.",
    "embed": "Turn texts into vectors, of any layer and pooling.",
    "export": "Write a model in a form that other programs run: ONNX, also in 8-bit integers.",
    "serve": "Answer over HTTP: the endpoints of Text Embeddings Inference and OpenAI's, and more.",
    "show": "Look inside data, a batch, a run or a model.",
    "inspect": "Write a page that shows the inside of a model: masked words, attention, states, reasons.",
    "watch": "Show runs while they train, as live curves on a page of this machine.",
    "verify": "Check that data, a run or a model is whole, and that a model answers as it did.",
    "bench": "Measure how fast this machine does a stage.",
}
"""Every verb, in the order of the walk, with its line of the overview. NAME is `verbs/NAME.py`, and at the terminal
NAME_command of `cli/NAME.py`."""
