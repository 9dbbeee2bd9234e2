"""What a frozen causal language model writes next, and how likely a text is: cached, batched, held to what may stand.

Knows texts, token ids and language models; knows nothing of images.
"""
