from visual_sentence.codebook import vocabulary_entries


def test_entries_are_distinct_readable_and_stripped(tokenizer):
    entries = vocabulary_entries(tokenizer)
    texts = [entry.text for entry in entries]
    assert len(set(texts)) == len(texts)
    assert all(text and text == text.strip() and "\ufffd" not in text for text in texts)
    assert not {"<eos>", "<pad>"} & set(texts)
    assert {"photo", "a", "!"} <= set(texts)


def test_first_id_wins(tokenizer):
    vocabulary = tokenizer.get_vocab()
    with_and_without_space = {"a", "Ġa"}
    assert with_and_without_space <= set(vocabulary)
    entry = next(entry for entry in vocabulary_entries(tokenizer) if entry.text == "a")
    assert entry.token_id == min(vocabulary[token] for token in with_and_without_space)
