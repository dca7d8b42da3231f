"""Candidate generators: from every item there is to the few hundred worth scoring."""
