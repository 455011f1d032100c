import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { expect, test } from "vitest";
import { chooseStagedOid } from "../staged-database.ts";
import { chooseDatabases, isCompleteWithout } from "./choose-databases.ts";

const database = (name: string, changes = {}) => ({
  oid: 16_384,
  name,
  allowsConnections: true,
  mayConnect: true,
  isProviders: false,
  isHalfDropped: false,
  ...changes,
});
const cluster = [
  database("template1"),
  database("template0", { allowsConnections: false }),
  database("postgres"),
  database("shop"),
  database("closed", { allowsConnections: false }),
  database("half", { allowsConnections: true, isHalfDropped: true }),
];
const choose = (databases: string[], excludeDatabases: string[] = []) => {
  const { chosen, missing } = chooseDatabases(cluster, { databases, excludeDatabases });
  return [chosen.map(({ name }) => name), missing.map(({ name, reason }) => [name, MissingReason[reason]])];
};

test("without names every database but template0 is wanted", () => {
  expect(choose([])).toEqual([
    ["template1", "postgres", "shop"],
    [
      ["closed", "CONNECTIONS_FORBIDDEN"],
      ["half", "DROPPED"],
    ],
  ]);
});

test("named databases alone are wanted, and one that does not exist is refused", () => {
  expect(choose(["shop", "closed"])).toEqual([["shop"], [["closed", "CONNECTIONS_FORBIDDEN"]]]);
  expect(() => choose(["shop", "shpo"])).toThrow('there is no database "shpo"');
});

test("what is left out by name is missing without harm, whatever else is wrong with it", () => {
  expect(choose([], ["closed", "half", "shop", "no such"])).toEqual([
    ["template1", "postgres"],
    [
      ["shop", "EXCLUDED"],
      ["closed", "EXCLUDED"],
      ["half", "EXCLUDED"],
    ],
  ]);
  expect(isCompleteWithout({ reason: MissingReason.EXCLUDED })).toBe(true);
  expect(isCompleteWithout({ reason: MissingReason.FAILED })).toBe(false);
});

test("a database that only this role may not connect to is lacking, and a provider's own is not", () => {
  const all = [
    database("foreign", { mayConnect: false }),
    database("rdsadmin", { isProviders: true, mayConnect: false }),
  ];
  const { chosen, missing } = chooseDatabases(all, { databases: [], excludeDatabases: [] });
  expect(chosen).toEqual([]);
  expect(missing.map((each) => [each.name, isCompleteWithout(each)])).toEqual([
    ["foreign", false],
    ["rdsadmin", true],
  ]);
});

test("what a restore works in is left out unless it is named, and nothing else by its look", () => {
  const name = "coppice_restore_1";
  const oid = chooseStagedOid(name);
  const all = [database(name, { oid }), database("coppice_restore_2", { oid }), database("shop", { oid })];
  const { chosen, missing } = chooseDatabases(all, { databases: [], excludeDatabases: [] });
  expect(chosen.map((each) => each.name)).toEqual(["coppice_restore_2", "shop"]);
  expect(missing.map((each) => [each.name, isCompleteWithout(each)])).toEqual([[name, true]]);
  expect(chooseDatabases(all, { databases: [name], excludeDatabases: [] }).missing).toEqual([]);
});
