"""What ties the library to others' frameworks; nothing in the library needs them."""
