"""Models on the Hugging Face Hub: the card, the files that go there, and the upload."""
