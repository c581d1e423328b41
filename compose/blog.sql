-- A few posts to start with, one of them not published: it gets an embedding once it is.

CREATE EXTENSION vector;

CREATE TABLE blog (
    id serial PRIMARY KEY,
    title text NOT NULL,
    author text NOT NULL,
    contents text NOT NULL,
    category text NOT NULL,
    published_time timestamptz
);

INSERT INTO blog (title, author, contents, category, published_time) VALUES
(
    'What VACUUM leaves behind',
    'Ada',
    'An UPDATE writes a new version of the row and leaves the old one in place. VACUUM makes the space of such'
    ' dead rows free for new ones. It gives space back to the operating system only at the end of the table.',
    'postgresql',
    now()
),
(
    'Reading a query plan',
    'Grace',
    'EXPLAIN ANALYZE runs the query and puts the rows it met beside the rows it expected. Where the two are far'
    ' apart, the planner was misled: look at the statistics of that table before looking for a new index.',
    'postgresql',
    now()
),
(
    'Bread without kneading',
    'Ada',
    'Flour, water, salt and very little yeast, stirred in the evening and left alone. By morning time has done'
    ' what kneading does. Bake it in a closed pot, as hot as the oven goes.',
    'kitchen',
    now()
),
(
    'A tent in the wind',
    'Edsger',
    'Pitch it with the narrow end to the wind and the pegs leaning away. Loose cloth is what tears: tighten the'
    ' lines again after the first hour, and once more before you sleep.',
    'outdoors',
    now()
),
(
    'Notes on logical decoding',
    'Grace',
    'A replication slot keeps the write-ahead log until its reader has confirmed it. An abandoned slot therefore'
    ' fills the disk: watch the bytes it retains.',
    'postgresql',
    NULL
);
