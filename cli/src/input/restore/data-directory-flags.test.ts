import { RecoveryAction } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
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

test("a place on a host makes it a restore of the whole cluster, to the latest point", () => {
  const flags = ["--start", "--port", "5433", "--replace", "--keep-failed", "--backup", "bkp_1"];
  expect(request("--to", "db8:/srv/pg/", ...flags)).toEqual({
    cluster: "shop",
    backup: "bkp_1",
    accept: [],
    replace: true,
    physical: {
      host: "db8",
      dataDirectory: "/srv/pg",
      target: { point: { case: undefined }, exclusive: false, timeline: 0, action: RecoveryAction.UNSPECIFIED },
      tablespaces: {},
      start: true,
      port: 5433,
      keepFailed: true,
    },
  });
});

test.each([
  [["--at", "2026-11-21 11:03:07.25+01"], { case: "time", value: { seconds: 1_795_255_387n, nanos: 250_000_000 } }],
  [["--at", "2 hours ago"], { case: "time", value: { seconds: 1_795_255_200n, nanos: 0 } }],
  [["--lsn", "16/b374d848"], { case: "lsn", value: "16/B374D848" }],
  [["--xid", "4294967295"], { case: "xid", value: 4_294_967_295 }],
  [["--name", "before release"], { case: "name", value: "before release" }],
  [["--immediate"], { case: "immediate", value: true }],
  [["--latest"], { case: undefined }],
])("%j is where recovery ends", (words, point) => {
  expect(request("--to", "db8:/srv/pg", ...words).physical?.target?.point).toEqual(point);
});

test("what is accepted of a plan goes with a directory and with one database at a point, and with no dump", () => {
  const accept = ["--accept", "wal-out-of-reach", "--accept", "timeline-not-followed"];
  const codes = ["wal-out-of-reach", "timeline-not-followed"];
  expect(request("--to", "db8:/srv/pg", ...accept).accept).toEqual(codes);
  expect(request("--database", "orders", "--latest", "--as", "copy", ...accept).accept).toEqual(codes);
  expect(() => request("--database", "orders", ...accept)).toThrow("--accept is about a data directory");
});

test("what is done at the point, on which timeline, and where tablespaces go is said with it", () => {
  const words = "--xid 9 --exclusive --action pause --timeline 3 --tablespace 16385=/n --tablespace /a=/b=c".split(" ");
  expect(request("--to", "db8:/srv/pg", ...words).physical).toMatchObject({
    target: { exclusive: true, action: RecoveryAction.PAUSE, timeline: 3 },
    tablespaces: { 16385: "/n", "/a": "/b=c" },
  });
});

test("the command line that says the same keeps the point", () => {
  const flags = parse(["--to", "db8:/srv/pg", "--at", "2 hours ago", "--tablespace", "/a=/b"]);
  expect(formatRestoreCommand("shop", flags)).toBe(
    "coppice restore create shop --to db8:/srv/pg --at '2 hours ago' --tablespace /a=/b",
  );
});

test.each([
  [["--to", "/srv/pg"], "does not say on which host"],
  [["--to", "db8:/"], "does not say on which host"],
  [["--to", "db8:/srv/pg", "--database", "orders"], "--database is about dumps"],
  [["--to", "db8:/srv/pg", "--schema-only"], "--schema-only is about dumps"],
  [["--to", "db8:/srv/pg", "--at", "2 hours ago", "--latest"], "--at and --latest are different points"],
  [["--to", "db8:/srv/pg", "--at", "2026-11-21 14:03:07"], "does not say in which time zone"],
  [["--to", "db8:/srv/pg", "--lsn", "12"], "is no WAL position"],
  [["--to", "db8:/srv/pg", "--exclusive"], "--exclusive leaves out"],
  [["--to", "db8:/srv/pg", "--action", "pause"], "--action is what the server does at a point"],
  [["--to", "db8:/srv/pg", "--immediate", "--action", "wait"], '--action is "wait"'],
  [["--to", "db8:/srv/pg", "--tablespace", "fast=/srv"], "does not say which folder becomes which"],
  [["--to", "shop-new", "--start"], "--start is about a data directory"],
  [["--at", "2 hours ago"], "--at is about a data directory"],
  [["--port", "65536"], '--port is "65536"'],
])("%j is refused before anything is asked for", (words, message) => {
  expect(() => request(...words)).toThrow(message);
});
