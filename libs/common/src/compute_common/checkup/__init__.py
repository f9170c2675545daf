"""What is wrong with a host, and the one thing to do about it: facts, the judgement of them, thin readers."""
