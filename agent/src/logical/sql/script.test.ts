import { expect, test } from "vitest";
import { filterScript } from "./script.ts";

test("the part of a database is found by its name in the encoding that the script says before it", async () => {
  const part = (database: string) => `--
-- PostgreSQL database dump
--
SET client_encoding = 'LATIN1';
CREATE DATABASE "${database}";
\\connect "${database}"
CREATE TABLE "in ${database}" ();
--
-- PostgreSQL database dump complete
--
`;
  async function* script() {
    yield Buffer.from(part("plain") + part("gr\xf6\xdfe"), "latin1");
  }
  const options = { isCluster: true, isOneTransaction: false, lacksToolSettings: false, key: "k" };
  const taken: string[] = [];
  const seen = { rows: 0n, leftOut: new Set<string>() };
  for await (const bytes of filterScript(script(), { ...options, database: "größe" }, seen))
    taken.push(bytes.toString("latin1"));
  expect(taken.join("").match(/CREATE TABLE .*/g)).toEqual(['CREATE TABLE "in gr\xf6\xdfe" ();']);
});
