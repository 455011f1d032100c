import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type DesiredState, DesiredStateSchema } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { WalReportAckSchema, WalReportSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { openLog } from "@coppice/proto/kit/log";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDesired, type StartedArchive } from "./desired.ts";

const log = openLog({ level: "silent", name: "test" });
let folder: string;
let running: StartedArchive[];
let acknowledged: bigint[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-desired-"));
  running = [];
  acknowledged = [];
});
afterEach(() => rm(folder, { recursive: true }));

const open = () =>
  openDesired({
    folder,
    log,
    archive: (started) => {
      running.push(started);
      const ended = Promise.withResolvers<void>();
      started.signal.addEventListener("abort", () => {
        running.splice(running.indexOf(started), 1);
        ended.resolve();
      });
      return {
        report: () => create(WalReportSchema, { clusterId: started.archive.clusterId }),
        acknowledge: (number) => void acknowledged.push(number),
        repeat: () => {},
        ended: ended.promise,
      };
    },
  });

const page = (revision: bigint, ids: readonly string[], { last = true, password = "secret word" } = {}): DesiredState =>
  create(DesiredStateSchema, {
    revision,
    last,
    entries: ids.map((id) => ({
      id,
      secrets: [{ id: "sec_1", value: password }],
      desired: {
        case: "walArchive" as const,
        value: {
          clusterId: id,
          systemIdentifier: "7",
          connection: {},
          repository: { repositoryId: "rep_1", location: {} },
          settings: {},
        },
      },
    })),
  });
const ids = () => running.map(({ archive }) => archive.clusterId).toSorted();

test("what is desired runs once its last page has come, and again after a restart, with nobody to say so", async () => {
  {
    await using desired = await open();
    expect(desired.revision).toBe(0n);
    desired.take(page(3n, ["cls_1"], { last: false }));
    expect(desired.revision).toBe(0n);
    desired.take(page(3n, ["cls_2"]));
    await expect.poll(ids).toEqual(["cls_1", "cls_2"]);
    expect(desired.revision).toBe(3n);
    expect(desired.reports().map(({ clusterId }) => clusterId)).toEqual(["cls_1", "cls_2"]);
    desired.acknowledge(create(WalReportAckSchema, { clusterId: "cls_2", number: 5n }));
    expect(acknowledged).toEqual([5n]);
  }
  expect(ids()).toEqual([]);
  await using desired = await open();
  expect(desired.revision).toBe(3n);
  expect(ids()).toEqual(["cls_1", "cls_2"]);
  expect(running[0]?.secret("sec_1")).toBe("secret word");
  expect(running[0]?.secret("")).toBeUndefined();
  expect(() => running[0]?.secret("sec_2")).toThrow("sec_2");
});

test("secrets lie in a file of their own that nobody else can read", async () => {
  await using desired = await open();
  desired.take(page(1n, ["cls_1"]));
  await expect.poll(ids).toEqual(["cls_1"]);
  expect(await readFile(join(folder, "desired.json"), "utf8")).not.toContain("secret word");
  expect(await readFile(join(folder, "secrets.json"), "utf8")).toContain("secret word");
  expect((await stat(join(folder, "secrets.json"))).mode & 0o777).toBe(0o600);
});

test("only what has changed is begun anew, and what is no longer wanted ends", async () => {
  await using desired = await open();
  desired.take(page(1n, ["cls_1", "cls_2"]));
  await expect.poll(ids).toEqual(["cls_1", "cls_2"]);
  const [first] = running;
  desired.take(page(2n, ["cls_1"]));
  await expect.poll(ids).toEqual(["cls_1"]);
  expect(running[0]).toBe(first);
  desired.take(page(3n, ["cls_1"], { password: "another" }));
  await expect.poll(() => running[0]?.secret("sec_1")).toBe("another");
  expect(running).toHaveLength(1);
});
