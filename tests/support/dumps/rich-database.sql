-- A database with a bit of everything that pg_dump knows: what a restore has to bring back exactly.
CREATE EXTENSION pg_trgm;
CREATE SCHEMA "odd schema %s";
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TABLE customer (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL COLLATE "C",
  mood mood DEFAULT 'ok',
  points positive,
  both_of pair,
  span floatrange,
  bytes bytea,
  doubled int GENERATED ALWAYS AS (points * 2) STORED,
  noted timestamptz DEFAULT now(),
  CHECK (length(name) < 100)
);
COMMENT ON TABLE customer IS E'it''s a \\ comment\nof two lines';
COMMENT ON COLUMN customer.name IS '🌲';
INSERT INTO customer (name, mood, points, both_of, span, bytes)
  SELECT 'näme ' || g || E'\t\\\n', 'happy', g, ROW(g, NULL)::pair, floatrange(g, g + 1.5), decode(md5(g::text), 'hex')
  FROM generate_series(1, 300) g;
INSERT INTO customer (name, points) VALUES (repeat('🌲', 60), NULL);
CREATE TABLE "odd schema %s"."--tab;le""'" (
  "col umn" bigint REFERENCES customer ON DELETE CASCADE,
  "é=é" text
);
ALTER TABLE "odd schema %s"."--tab;le""'" ALTER "é=é" SET STORAGE EXTERNAL;
INSERT INTO "odd schema %s"."--tab;le""'" SELECT id, repeat(md5(id::text), 200) FROM customer;
CREATE TABLE event (id int, at date NOT NULL, body jsonb) PARTITION BY RANGE (at);
CREATE TABLE event_2025 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE INDEX event_body ON event USING gin (body);
INSERT INTO event SELECT g, '2025-06-01'::date + g, jsonb_build_object('g', g) FROM generate_series(1, 400) g;
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO child VALUES (1, 2);
INSERT INTO parent VALUES (3);
CREATE UNLOGGED TABLE scratch AS SELECT 1 AS one;
CREATE INDEX customer_trgm ON customer USING gin (name gin_trgm_ops);
CREATE UNIQUE INDEX customer_partial ON customer (lower(name)) WHERE points > 10;
CREATE STATISTICS customer_stats ON mood, points FROM customer;
CREATE SEQUENCE counter INCREMENT 5 MAXVALUE 1000 CYCLE;
SELECT setval('counter', 41, false);
CREATE VIEW happy AS SELECT id, name FROM customer WHERE mood = 'happy' WITH CHECK OPTION;
CREATE MATERIALIZED VIEW totals AS SELECT mood, count(*) FROM customer GROUP BY mood;
CREATE UNIQUE INDEX ON totals (mood);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.noted := now(); RETURN NEW; END$$;
CREATE TRIGGER touched BEFORE UPDATE ON customer FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION touch();
CREATE PROCEDURE nothing(INOUT x int) LANGUAGE sql AS $$SELECT x$$;
CREATE FUNCTION plus(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql IMMUTABLE STRICT RETURN a + b;
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = plus);
CREATE RULE ignore AS ON DELETE TO scratch DO INSTEAD NOTHING;
CREATE TEXT SEARCH CONFIGURATION plain_search (COPY = simple);
CREATE CAST (mood AS int) WITH INOUT;
ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON customer FOR SELECT TO "re ader" USING (name <> current_user);
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO "re ader";
GRANT SELECT (id, name), UPDATE (points) ON customer TO "re ader" WITH GRANT OPTION;
GRANT USAGE ON SCHEMA "odd schema %s" TO "re ader";
REVOKE EXECUTE ON FUNCTION plus FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER TABLE event OWNER TO shop_owner;
ALTER FUNCTION plus OWNER TO shop_owner;
SELECT lo_from_bytea(7000, decode('00ff10', 'hex'));
SELECT lo_from_bytea(7001, decode(repeat('ab', 5000), 'hex'));
COMMENT ON LARGE OBJECT 7000 IS 'a large object';
GRANT SELECT ON LARGE OBJECT 7000 TO "re ader";
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$;
CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION watch();
