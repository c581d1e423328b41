-- Another text for one of the rows that were there at the start.
\set id random(1, :rows)
UPDATE doc SET body = repeat(md5(random()::text) || ' ', 9) WHERE id = :id;
