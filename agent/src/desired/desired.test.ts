// One thing: what a host is asked to keep up, from the pages that tell it to what runs and is withdrawn.
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type DesiredState, DesiredStateSchema } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { EndSegmentSchema, WalReportAckSchema, WalReportSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { openLog } from "@coppice/proto/kit/log";
import { afterEach, beforeEach, expect, test } from "vitest";
import { slotOf } from "../wal/receive/slot-name.ts";
import { type Desired, openDesired, type StartedArchive } from "./desired.ts";

const log = openLog({ level: "silent", name: "test" });
let folder: string;
let running: StartedArchive[];
let acknowledged: bigint[];
let withdrawn: string[];
let askedOf: string[];
let isServerDown: boolean;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-desired-"));
  running = [];
  acknowledged = [];
  withdrawn = [];
  askedOf = [];
  isServerDown = false;
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
        endSegment: ({ lsn }) => void askedOf.push(`${started.archive.clusterId} ${lsn}`),
        ended: ended.promise,
      };
    },
    withdraw: async ({ archive, secret, next }) => {
      if (isServerDown) throw new Error("the server is down");
      withdrawn.push(
        [archive.clusterId, slotOf(archive), secret("sec_1"), ...(next ? [`then ${slotOf(next.archive)}`] : [])].join(
          " ",
        ),
      );
    },
  });

interface PageOptions {
  readonly last?: boolean;
  readonly password?: string;
  readonly slot?: string;
  readonly ended?: readonly { readonly id: string; readonly revision: bigint }[];
}

const page = (
  revision: bigint,
  ids: readonly string[],
  { last = true, password = "secret word", slot = "", ended = [] }: PageOptions = {},
): DesiredState =>
  create(DesiredStateSchema, {
    revision,
    last,
    ended: [...ended],
    entries: ids.map((id) => ({
      id,
      secrets: [{ id: "sec_1", value: password }],
      desired: {
        case: "walArchive" as const,
        value: {
          clusterId: id,
          systemIdentifier: "7",
          connection: { passwordSecret: "sec_1" },
          repository: { repositoryId: "rep_1", location: {} },
          settings: { slot },
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

test("a segment is ended for the cluster that it is asked for, where that is archived here", async () => {
  await using desired = await open();
  desired.take(page(1n, ["cls_1", "cls_2"]));
  await expect.poll(ids).toEqual(["cls_1", "cls_2"]);
  for (const clusterId of ["cls_2", "cls_3"]) desired.endSegment(create(EndSegmentSchema, { clusterId, lsn: "0/1" }));
  expect(askedOf).toEqual(["cls_2 0/1"]);
});

test("secrets lie in a file of their own that nobody else can read", async () => {
  await using desired = await open();
  desired.take(page(1n, ["cls_1"]));
  await expect.poll(ids).toEqual(["cls_1"]);
  expect(await readFile(join(folder, "desired.json"), "utf8")).not.toContain("secret word");
  expect(await readFile(join(folder, "secrets.json"), "utf8")).toContain("secret word");
  expect((await stat(join(folder, "secrets.json"))).mode & 0o777).toBe(0o600);
});

test("only what has changed is begun anew, and what was given up ends for good", async () => {
  await using desired = await open();
  desired.take(page(1n, ["cls_1", "cls_2"]));
  await expect.poll(ids).toEqual(["cls_1", "cls_2"]);
  const [first] = running;
  const told = page(2n, ["cls_1"], { ended: [{ id: "cls_2", revision: 2n }] });
  // What the catalog knows by then is nothing that is desired.
  const one = told.entries[0]?.desired;
  if (one?.case === "walArchive") Object.assign(one.value, { nothingArchived: true, knownClusters: ["cls_9"] });
  desired.take(told);
  await expect.poll(ids).toEqual(["cls_1"]);
  expect(running[0]).toBe(first);
  await expect.poll(() => withdrawn).toEqual(["cls_2 coppice_cls_2 secret word"]);
  desired.take(page(3n, ["cls_1"], { password: "another" }));
  await expect.poll(() => running[0]?.secret("sec_1")).toBe("another");
  expect(running).toHaveLength(1);
});

test("what another agent goes on with ends, its slot is kept, and how far it came is told until it is acknowledged", async () => {
  const value = { clusterId: "cls_1", systemIdentifier: "7", repositoryId: "rep_1", number: 9n };
  const end = create(DesiredStateSchema, {
    revision: 2n,
    last: true,
    entries: [{ id: "cls_1", desired: { case: "walEnd", value } }],
  });
  const told = (desired: Desired) => desired.reports().map(({ endedGrant, storedLsn }) => [endedGrant, storedLsn]);
  {
    await using desired = await open();
    desired.take(page(1n, ["cls_1"]));
    await expect.poll(ids).toEqual(["cls_1"]);
    const of = join(folder, "wal/cls_1_7_rep_1");
    await mkdir(of, { recursive: true });
    await writeFile(join(of, "index"), "1 0/2000000 0/5000000\n");
    desired.take(end);
    await expect.poll(() => told(desired)).toEqual([[9n, "0/5000000"]]);
    expect(ids()).toEqual([]);
    expect(withdrawn).toEqual([]);
  }
  // Also when it was not heard before it ended.
  await using desired = await open();
  await expect.poll(() => told(desired)).toEqual([[9n, "0/5000000"]]);
  expect(running).toEqual([]);
  desired.take(page(3n, []));
  await expect.poll(() => desired.revision).toBe(3n);
  expect(withdrawn).toEqual([]);
});

test("what a control plane does not know goes on with its secrets, and ends only when that is said later than it was wanted", async () => {
  {
    await using desired = await open();
    desired.take(page(4n, ["cls_1", "cls_2"]));
    await expect.poll(ids).toEqual(["cls_1", "cls_2"]);
    // A catalog of last night: cls_2 had been given up then, and was set up again this morning.
    desired.take(page(5n, ["cls_1"], { ended: [{ id: "cls_2", revision: 3n }] }));
    await expect.poll(() => desired.revision).toBe(5n);
    // One that was made anew.
    desired.take(page(6n, []));
    await expect.poll(() => desired.revision).toBe(6n);
  }
  await using desired = await open();
  expect(ids()).toEqual(["cls_1", "cls_2"]);
  expect(running[1]?.secret("sec_1")).toBe("secret word");
  expect(withdrawn).toEqual([]);
  desired.take(page(7n, [], { ended: [{ id: "cls_2", revision: 7n }] }));
  await expect.poll(ids).toEqual(["cls_1"]);
  await expect.poll(() => withdrawn).toEqual(["cls_2 coppice_cls_2 secret word"]);
});

test("a server that is down when its archive is given up is told later, unless that is wanted again by then", async () => {
  await using desired = await open();
  desired.take(page(1n, ["cls_1", "cls_2"]));
  await expect.poll(ids).toEqual(["cls_1", "cls_2"]);
  isServerDown = true;
  const ended = ["cls_1", "cls_2"].map((id) => ({ id, revision: 2n }));
  desired.take(page(2n, [], { ended }));
  await expect.poll(ids).toEqual([]);
  desired.take(page(3n, ["cls_2"]));
  await expect.poll(ids).toEqual(["cls_2"]);
  isServerDown = false;
  await expect.poll(() => withdrawn, { timeout: 30_000 }).toEqual(["cls_1 coppice_cls_1 secret word"]);
});

test("what a server still keeps for what has ended is remembered, told, and taken away when it can be", async () => {
  const left = (desired: Desired) =>
    desired.reports().flatMap(({ clusterId, leftover }) => (leftover ? [`${clusterId} ${leftover.slot}`] : []));
  isServerDown = true;
  {
    await using desired = await open();
    desired.take(page(1n, ["cls_1", "cls_2", "cls_3"], { slot: "mine" }));
    await expect.poll(ids).toEqual(["cls_1", "cls_2", "cls_3"]);
    // Another slot, and none at all.
    const ended = ["cls_2", "cls_3"].map((id) => ({ id, revision: 2n }));
    desired.take(page(2n, ["cls_1"], { ended }));
    await expect.poll(() => desired.revision).toBe(2n);
    await expect.poll(() => left(desired)).toEqual(["cls_1 mine", "cls_2 mine", "cls_3 mine"]);
    expect(left(desired)).toEqual([]);
    // Said once more: the server is gone, or the slot is somebody else's.
    desired.take(page(3n, ["cls_1"], { ended: [{ id: "cls_3", revision: 3n }] }));
    await expect.poll(() => desired.revision).toBe(3n);
  }
  expect(withdrawn).toEqual([]);
  isServerDown = false;
  {
    await using desired = await open();
    await expect
      .poll(() => withdrawn.toSorted())
      .toEqual(["cls_1 mine secret word then coppice_cls_1", "cls_2 mine secret word"]);
    expect(desired.revision).toBe(3n);
  }
  await using _desired = await open();
  expect(JSON.parse(await readFile(join(folder, "withdrawals.json"), "utf8"))).toEqual([]);
  expect(withdrawn).toHaveLength(2);
});

test("what cannot be held is held when there is room again", async () => {
  await using desired = await open();
  await mkdir(join(folder, "desired.json.new", "in the way"), { recursive: true });
  desired.take(page(1n, ["cls_1"]));
  await expect.poll(() => readFile(join(folder, "secrets.json"), "utf8").catch(() => "")).toContain("secret word");
  expect(desired.revision).toBe(0n);
  await rm(join(folder, "desired.json.new"), { recursive: true });
  await expect.poll(ids, { timeout: 30_000 }).toEqual(["cls_1"]);
  expect([desired.revision, running[0]?.secret("sec_1")]).toEqual([1n, "secret word"]);
});
