// What a swap would put aside without a word is found by the names of it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { findOnlyLive } from "../../agent/src/scratch/only-live.ts";
import { connectionTo } from "../support/dumps/dump-lab.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";

test.each([15, 18])("what only the live database of PostgreSQL %i has is named, with its rows", async (major) => {
  await using server = await openPostgresServer({ major });
  await server.sql("postgres", "create database past");
  const both = "create table items (id serial primary key); create schema shared";
  for (const database of ["past", "postgres"]) await server.sql(database, both);
  await server.sql(
    "postgres",
    `create table "Newer" (id serial primary key, n int unique); insert into "Newer" select i, i from generate_series(1, 50) i;
     create schema inv; create table inv.stock (day int) partition by range (day);
     create table inv.stock_1 partition of inv.stock for values from (0) to (9);
     insert into inv.stock values (1), (2); create view inv.seen as select * from items;
     create function add(int) returns int language sql return 1; create type state as enum ('new');
     create sequence numbers; create temp table gone (id int)`,
  );
  const home = await mkdtemp(join(tmpdir(), "coppice-home-"));
  const endpoint = await resolveEndpoint(connectionTo(server).endpoint, server.password, { home });
  const sides = { live: { endpoint, database: "postgres" }, recovered: { endpoint, database: "past" } };
  const found = async () => await findOnlyLive(sides, AbortSignal.timeout(60_000));
  const { objects, more } = await found();
  expect(objects.map(({ kind, name, rows }) => `${kind} ${name} ${rows}`)).toEqual([
    "table inv.stock 2",
    'table public."Newer" 50',
    "function public.add(integer) undefined",
    "schema inv undefined",
    "sequence public.numbers undefined",
    "type public.state undefined",
    "view inv.seen undefined",
  ]);
  expect(more).toBe(0);
  await server.sql("postgres", "select format('create table many_%s ()', i) from generate_series(1, 50) i \\gexec\n");
  expect(await found()).toMatchObject({ more: 7 });
  await rm(home, { recursive: true });
});
