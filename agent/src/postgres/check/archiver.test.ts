import { expect, test } from "vitest";
import { findArchiver } from "./archiver.ts";

const server = { archiveMode: "on", archiveCommand: "", archiveLibrary: "", slotNames: [] as string[] };

test.each([
  ["pgbackrest --stanza=main archive-push %p", "pgBackRest"],
  ["/usr/bin/envdir /etc/wal-g.d wal-g wal-push %p", "WAL-G"],
  ["barman-wal-archive backup pg %p", "Barman"],
  ["rsync -a %p barman@backup:/var/lib/barman/pg/incoming/%f", "Barman"],
  ["barman-cloud-wal-archive s3://b pg %p", "Barman"],
  ["envdir /etc/wal-e.d/env wal-e wal-push %p", "WAL-E"],
  ["pg_probackup archive-push -B /b --instance i --wal-file-name %f", "pg_probackup"],
  ["cp %p /archive/%f", "a command of its own"],
])("whoever archives by %j is %s", (archiveCommand, name) => {
  expect(findArchiver({ ...server, archiveCommand })).toEqual({ name, by: "archive_mode" });
});

test("Coppice's own command is known wherever it lies, and one that archives nothing is nobody's", () => {
  const by = (archiveCommand: string) => findArchiver({ ...server, archiveCommand })?.by;
  expect(by("'/usr/bin/coppice-wal' push '/var/lib/coppice/push/cls_01/s' %p")).toBe("coppice");
  expect(by("coppice-wal push '/srv/dä ta'\\''s/push/cls_01/s' %p")).toBe("coppice");
  expect(by("true")).toBe("discard");
  expect(by("/srv/coppice-wal-copy push '/x' %p")).toBe("archive_mode");
});

test("a library counts as a command does, an empty command as nobody, and a slot only where nothing archives", () => {
  expect(findArchiver({ ...server, archiveLibrary: "basic_archive" })?.name).toBe("the library basic_archive");
  expect(findArchiver(server)).toEqual({ name: "nobody", by: "nothing" });
  const off = { ...server, archiveMode: "off", archiveCommand: "(disabled)" };
  expect(findArchiver(off)).toBeUndefined();
  expect(findArchiver({ ...off, slotNames: ["coppice", "barman_main"] })).toEqual({ name: "Barman", by: "slot" });
});
