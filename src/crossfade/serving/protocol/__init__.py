"""What travels: bodies to typed tensors and answers to bodies, for the Open Inference Protocol and for plain rows."""
