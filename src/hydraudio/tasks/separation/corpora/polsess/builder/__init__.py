"""The corpus builder: folders of speech, scenes and events in, a corpus in the PolSESS layout out."""
