"""Speech encoders as upstreams: WavLM, HuBERT and wav2vec 2.0."""
