-- A commit to a table that walvec does not follow.
INSERT INTO other (note) VALUES ('walvec does not follow this table');
