-- A new row of the table that walvec follows: a text of about 300 characters, unlike any other.
INSERT INTO doc (id, body)
VALUES (nextval('doc_ids'), repeat(md5(random()::text) || ' ', 9));
