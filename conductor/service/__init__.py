"""Use cases for people: ask for runs, look at them, learn why one does not move. Knows no terminal and no web page."""
