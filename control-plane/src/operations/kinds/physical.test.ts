// One thing: what answers about physical backups, their restores and a rebuild are believed, and what becomes of them.
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Result, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { BackupAddressSchema, RepositoryTargetSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { PhysicalContentSchema } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { expect, test } from "vitest";
import type { OperationSpec } from "./kind.ts";
import { kinds } from "./registry.ts";

const idOf = (prefix: string, letter: string) => `${prefix}_${letter.padStart(26, "0")}`;
const cls = idOf("cls", "a");
const bkp = {
  a: idOf("bkp", "a"),
  b: idOf("bkp", "b"),
  c: idOf("bkp", "c"),
  p: idOf("bkp", "p"),
  q: idOf("bkp", "q"),
  x: idOf("bkp", "x"),
  y: idOf("bkp", "y"),
};

const time = timestampFromDate(new Date("2026-11-20T12:00:00Z"));
const stream = { objects: [{ key: "data/base.tar.zst.000001", sizeBytes: 7n }], codec: "zstd" };

function spec(init: NonNullable<MessageInitShape<typeof OperationSchema>["spec"]>): OperationSpec {
  const made = create(OperationSchema, { spec: init }).spec;
  if (made.case === undefined) throw new Error("a spec has a case");
  return made;
}

const asked = (
  kind = BackupKind.FULL,
  options: { walEmbedded: boolean; method?: IncrementalMethod } = { walEmbedded: true },
  parent = "",
) =>
  spec({
    case: "createPhysicalBackup",
    value: { backup: bkp.a, cluster: cls, repository: "rep_a", folder: "f", kind, options, parent },
  });

type Physical = Omit<MessageInitShape<typeof PhysicalContentSchema>, "$typeName">;

const whole: Physical = {
  base: stream,
  backupManifest: stream,
  wal: stream,
  backupManifestSha256: "a".repeat(64),
  startLsn: "0/2000028",
  stopLsn: "0/2000120",
  timeline: 1,
  walSegmentBytes: 16_777_216n,
  walEmbedded: true,
  dataBytes: 100n,
};

function backedUp(
  physical: Physical = {},
  manifest: { kind?: BackupKind; complete?: boolean; backupId?: string; systemIdentifier?: string } = {},
): Result["result"] {
  return create(ResultSchema, {
    result: {
      case: "backupPhysical",
      value: {
        manifest: {
          backupId: bkp.a,
          clusterId: cls,
          kind: BackupKind.FULL,
          complete: true,
          systemIdentifier: "7380000000000000001",
          startTime: time,
          endTime: time,
          content: { case: "physical", value: create(PhysicalContentSchema, { ...whole, ...physical }) },
          ...manifest,
        },
        manifestSha256: "0".repeat(64),
        storedBytes: 50n,
      },
    },
  }).result;
}

test("a physical backup whose manifest is whole is entered", () => {
  const { result, failure, changes } = kinds.createPhysicalBackup.apply(asked(), { result: backedUp() });
  expect(failure).toBeUndefined();
  expect(result?.value).toMatchObject({ backup: bkp.a, startLsn: "0/2000028", dataBytes: 100n, storedBytes: 50n });
  expect(changes.map(({ is }) => is)).toEqual(["clusterTried", "repositoryTried", "backupStored"]);
});

test.for([
  ["another backup", backedUp({}, { backupId: bkp.b })],
  ["an incomplete one", backedUp({}, { complete: false })],
  ["one without a system identifier", backedUp({}, { systemIdentifier: "" })],
  ["an end before its start", backedUp({ stopLsn: "0/2000000" })],
  ["a position that is none", backedUp({ startLsn: "here" })],
  ["no timeline", backedUp({ timeline: 0 })],
  ["segments of no size", backedUp({ walSegmentBytes: 5n })],
  ["no data directory", backedUp({ base: { objects: [] } })],
  ["no backup_manifest", backedUp({ backupManifest: { objects: [] } })],
  ["a tablespace without an archive", backedUp({ tablespaces: [{ oid: 16_400, location: "/t" }] })],
  ["embedded WAL that is not there", backedUp({ wal: { objects: [] } })],
  ["WAL that is elsewhere", backedUp({ walEmbedded: false })],
  ["damaged pages that nobody accepted", backedUp({ corruptPages: true })],
  ["an incremental", backedUp({ parentBackupId: bkp.p }, { kind: BackupKind.INCREMENTAL })],
  ["a full with a parent", backedUp({ parentBackupId: bkp.p })],
] as const)("%s is not believed to be the full backup that was asked for", ([, result]) => {
  const { failure, changes } = kinds.createPhysicalBackup.apply(asked(), { result });
  expect(failure?.reason).toBe("AGENT_ANSWER_INVALID");
  expect(changes).toEqual([]);
});

test("an incremental builds on the parent that was asked for, or is a full that says why", () => {
  const wanted = asked(BackupKind.INCREMENTAL, { walEmbedded: true }, bkp.p);
  const reasonOf = (result: Result["result"]) => kinds.createPhysicalBackup.apply(wanted, { result }).failure?.reason;
  expect(reasonOf(backedUp({ parentBackupId: bkp.p }, { kind: BackupKind.INCREMENTAL }))).toBeUndefined();
  expect(reasonOf(backedUp({ parentBackupId: bkp.q }, { kind: BackupKind.INCREMENTAL }))).toBe("AGENT_ANSWER_INVALID");
  expect(reasonOf(backedUp())).toBe("AGENT_ANSWER_INVALID");
  expect(reasonOf(backedUp({ fullReason: "summaries are missing" }))).toBeUndefined();
});

test("a WAL increment names its restore point and all its WAL, and comes only where one was asked for", () => {
  const archived = (name: string) => ({
    codec: "zstd",
    objects: [{ key: `00000001/0000000100000000/${name}`, sizeBytes: 5n }],
  });
  const increment = (more: Physical = {}) => {
    const result = backedUp(
      {
        walEmbedded: false,
        method: IncrementalMethod.WAL,
        parentBackupId: bkp.p,
        parentStopLsn: "0/2000028",
        restorePoint: "coppice_here",
        backupManifestSha256: "",
        archivedWal: [archived("000000010000000000000002")],
        ...more,
      },
      { kind: BackupKind.INCREMENTAL },
    );
    const content = result.case === "backupPhysical" ? result.value.manifest?.content : undefined;
    if (content?.case === "physical") {
      for (const stream of ["base", "backupManifest", "wal"] as const) delete content.value[stream];
    }
    return result;
  };
  const apply = (result: Result["result"], method = IncrementalMethod.WAL) =>
    kinds.createPhysicalBackup.apply(asked(BackupKind.INCREMENTAL, { walEmbedded: false, method }, bkp.p), {
      result,
    });
  const { failure, result, changes } = apply(increment());
  expect(failure).toBeUndefined();
  expect(result?.value).toMatchObject({ method: IncrementalMethod.WAL, walBytes: 5n, parent: bkp.p });
  expect(changes.map(({ is }) => is)).toContain("backupStored");
  expect(rebuilt(increment(), backedUp({}, { backupId: bkp.p })).entered).toEqual([bkp.p, bkp.a]);
  for (const wrong of [
    { restorePoint: "" },
    { parentStopLsn: "0/2000020" },
    { walEmbedded: true },
    { archivedWal: [] },
    { archivedWal: [archived("000000010000000000000003")] },
  ])
    expect(apply(increment(wrong)).failure?.reason, Object.keys(wrong).join(" ")).toBe("AGENT_ANSWER_INVALID");
  expect(apply(increment(), IncrementalMethod.NATIVE).failure?.reason).toBe("AGENT_ANSWER_INVALID");
});

/** What a rebuild enters of backups that were found with such manifests. */
function rebuilt(...answers: readonly Result["result"][]) {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const backups = answers.map((answer) => {
    const manifest = answer.case === "backupPhysical" ? answer.value.manifest : undefined;
    if (manifest === undefined) throw new Error("a backup has a manifest");
    return {
      folder: `f_${manifest.backupId}`,
      manifest: bytes(toJsonString(BackupManifestSchema, manifest)),
      manifestSha256: "0".repeat(64),
    };
  });
  const clusterFiles = [bytes(JSON.stringify({ formatVersion: 1, clusterId: cls, name: "orders" }))];
  const { result } = create(ResultSchema, { result: { case: "scanRepository", value: { clusterFiles, backups } } });
  const applied = kinds.rebuildRepository.apply(spec({ case: "rebuildRepository", value: { repository: "rep_a" } }), {
    result,
  });
  const entered = applied.changes.flatMap((change) => (change.is === "backupStored" ? [change.backup.id] : []));
  return { entered, result: applied.result?.value };
}

const restore = (value: object = {}) =>
  spec({
    case: "restorePhysical",
    value: {
      repository: "rep_a",
      chain: [bkp.a],
      dataDirectory: "/srv/back",
      start: true,
      host: "hst_a",
      tablespaces: { 16_400: "/t" },
      ...value,
    },
  });

const restored = (value: object = {}) =>
  create(ResultSchema, {
    result: {
      case: "restorePhysical",
      value: { dataDirectory: "/srv/back", files: 9, started: true, timeline: 2, endLsn: "0/2000120", ...value },
    },
  }).result;

test("a server that has come to its target settles where that is, and one that was not started does not", () => {
  const warnings = ["nobody knows where transaction 7 is: it may lie before", "later"];
  const told = (start: boolean) =>
    kinds.restorePhysical.apply(restore({ start, warnings }), { result: restored({ started: start }) }).result?.value;
  expect([told(true), told(false)]).toMatchObject([{ warnings: ["later"] }, { warnings }]);
});

test("a restored data directory is told with its host", () => {
  const { result, failure } = kinds.restorePhysical.apply(restore(), { result: restored() });
  expect(failure).toBeUndefined();
  expect(result?.value).toMatchObject({ host: "hst_a", dataDirectory: "/srv/back", timeline: 2, endLsn: "0/2000120" });
});

test.for([
  ["another directory", restored({ dataDirectory: "/srv/other" })],
  ["no files", restored({ files: 0 })],
  ["a server that was not started", restored({ started: false })],
  ["no timeline", restored({ timeline: 0 })],
  ["something moved aside that was to be left", restored({ keptAs: "/srv/back.before" })],
] as const)("a restore with %s is not believed", ([, result]) => {
  expect(kinds.restorePhysical.apply(restore(), { result }).failure?.reason).toBe("AGENT_ANSWER_INVALID");
});

test("a restore names each backup of its chain and each tablespace", () => {
  const repository = create(RepositoryTargetSchema, { repositoryId: "rep_a" });
  const copy = (backupId: string) => ({
    address: create(BackupAddressSchema, { repository, backupId, folder: "f" }),
    keys: [],
  });
  const chain = [copy(bkp.a), copy(bkp.b)];
  const { value } = kinds.restorePhysical.plan(restore(), { chain });
  expect(value).toMatchObject({
    chain: [{ backupId: bkp.a }, { backupId: bkp.b }],
    tablespaces: [{ oid: 16_400, location: "/t" }],
    dataDirectory: "/srv/back",
    start: true,
  });
});

test("a plan joins what the catalog and the host say, and one that looked at nothing is none", () => {
  const wanted = spec({
    case: "planPhysical",
    value: { restore: { repository: "rep_a" }, plan: { chain: [bkp.a], items: [{ name: "recovery" }] } },
  });
  const answer = (items: { name: string; status: CheckStatus }[]) =>
    create(ResultSchema, { result: { case: "planPhysical", value: { items, neededBytes: 9n, steps: ["unpack"] } } });
  const host = { name: "space", status: CheckStatus.FAILED };
  const { result, failure } = kinds.planPhysical.apply(wanted, { result: answer([host]).result });
  expect(failure).toBeUndefined();
  expect(result?.value).toMatchObject({
    chain: [bkp.a],
    items: [{ name: "recovery" }, { name: "space" }],
    neededBytes: 9n,
    steps: ["unpack"],
  });
  expect(kinds.planPhysical.apply(wanted, { result: answer([]).result }).failure?.reason).toBe("AGENT_ANSWER_INVALID");
});

test("a rebuild enters parents before what builds on them, and nothing whose parent is missing", () => {
  const made = (backupId: string, parentBackupId: string) =>
    backedUp({ parentBackupId }, { backupId, kind: parentBackupId ? BackupKind.INCREMENTAL : BackupKind.FULL });
  const { entered, result } = rebuilt(made(bkp.c, bkp.b), made(bkp.b, bkp.a), made(bkp.a, ""), made(bkp.x, bkp.y));
  expect(entered).toEqual([bkp.a, bkp.b, bkp.c]);
  expect(result).toMatchObject({
    backups: 3,
    problems: [`${cls}/f_${bkp.x}: ${bkp.y}, which it builds on, was not found with it`],
  });
});
