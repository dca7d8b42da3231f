"""What a server can be asked, group by group; `table` has all of it."""
