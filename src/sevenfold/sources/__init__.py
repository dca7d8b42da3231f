"""Where events come from: files and requests in, checked events and dead letters out."""
