import { Command } from "commander";
import { expect, test } from "vitest";
import { formatRestoreCommand, readRestoreFlags, restoreOptions, restoreRequest } from "./restore-flags.ts";

const now = new Date("2026-11-21T12:00:00Z");

function parse(words: readonly string[]) {
  const command = new Command().exitOverride();
  for (const option of restoreOptions()) command.addOption(option);
  return readRestoreFlags(command.parse(words, { from: "user" }).opts(), {});
}
const request = (...words: string[]) => restoreRequest("shop", parse(words), now);

test("a database with a point in time is a part of a physical backup, loaded into a cluster", () => {
  const words = "--at 2026-11-21T10:00Z --database orders --table public.items --to shop2 --as items_before".split(" ");
  expect(request(...words)).toMatchObject({
    cluster: "shop",
    database: "orders",
    targetCluster: "shop2",
    targetDatabase: "items_before",
    selection: { tables: [{ schema: "public", name: "items" }] },
    part: { target: { point: { case: "time" } }, file: "", fileHost: "", scratch: "" },
  });
  expect(formatRestoreCommand("shop", parse(words))).toContain("--at 2026-11-21T10:00Z");
});

test("a place on a host makes it a dump file there", () => {
  const { part, targetCluster } = request(
    "--latest",
    "--database",
    "a",
    "--to",
    "db7:/srv/a.dump",
    "--scratch",
    "/big",
  );
  expect(part).toMatchObject({
    fileHost: "db7",
    file: "/srv/a.dump",
    scratch: "/big",
    target: { point: { case: undefined } },
  });
  expect(targetCluster).toBe("");
});

test.each([
  [["--latest", "--database", "a", "--start"], "--start does not go with one database"],
  [["--xid", "7", "--database", "a", "--action", "pause"], "--action does not go with one database"],
  [["--latest", "--database", "a", "--all"], "--all does not go with one database"],
  [["--latest", "--database", "a", "--to", "/srv/x"], "does not say on which host the dump file"],
  [["--latest", "--database", "a", "--lsn", "0/1"], "are different points"],
  [["--scratch", "/big", "--to", "shop2"], "--scratch is about a data directory"],
  [["--database", "a", "--to", "db7:/x.dump"], "--database is about dumps"],
])("%j is refused before anything is asked for", (words, message) => {
  expect(() => request(...words)).toThrow(message);
});
