-- What each database of the golden repository holds: something of every kind that a restore can get wrong.
CREATE SCHEMA "odd schema";
CREATE TYPE mood AS ENUM ('calm', 'busy');
CREATE DOMAIN "odd schema".amount AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TABLE customer (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL COLLATE "C",
  mood mood DEFAULT 'calm',
  facts jsonb,
  picture bytea,
  shout text GENERATED ALWAYS AS (upper(name)) STORED,
  UNIQUE (name)
);
CREATE TABLE "odd schema"."--order;""'" (
  customer bigint REFERENCES customer ON DELETE CASCADE,
  at timestamptz NOT NULL,
  total "odd schema".amount
) PARTITION BY RANGE (at);
CREATE TABLE "odd schema".older PARTITION OF "odd schema"."--order;""'" FOR VALUES FROM (MINVALUE) TO ('2026-01-01 00:00+00');
CREATE TABLE "odd schema".newer PARTITION OF "odd schema"."--order;""'" FOR VALUES FROM ('2026-01-01 00:00+00') TO (MAXVALUE);
INSERT INTO customer (name, mood, facts, picture)
SELECT 'customer ' || n || E' ''"\\\n\té🌲', (ARRAY['calm', 'busy'])[1 + n % 2]::mood,
  jsonb_build_object('n', n, 'text', repeat('x', n % 5)), decode(md5(n::text), 'hex')
FROM generate_series(1, 40) AS n;
INSERT INTO "odd schema"."--order;""'"
SELECT 1 + n % 40, timestamptz '2025-12-01 12:00+00' + n * interval '1 day', n * 1.25 FROM generate_series(1, 60) AS n;
CREATE INDEX ON customer USING gin (facts);
CREATE INDEX "by total" ON "odd schema"."--order;""'" (total) WHERE total > 10;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE RETURN n * 2;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.mood := 'busy'; RETURN NEW; END$$;
CREATE TRIGGER touched BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW calm AS SELECT id, name FROM customer WHERE mood = 'calm' WITH CHECK OPTION;
CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) AS total FROM "odd schema"."--order;""'" GROUP BY 1;
CREATE SEQUENCE "odd schema".ticket START 100 INCREMENT 5;
SELECT nextval('"odd schema".ticket'), nextval('"odd schema".ticket');
SELECT lo_from_bytea(4711, 'a large object');
ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON customer FOR SELECT TO "golden reader" USING (id < 10);
GRANT SELECT (id, name) ON customer TO "golden reader";
ALTER TABLE customer OWNER TO golden_owner;
COMMENT ON TABLE customer IS 'who buys; a comment with ''quotes'' and
two lines';
