"""Networks of masked-autoencoder pretraining: grid, masks, positions, blocks, encoder, decoder, and what joins them."""
