// One thing: what operations of every kind make of an answer, checked for all of them by one table of specs.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { BackupDumpResultSchema } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { type Result, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { RepositoryTargetSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { DumpContents, DumpFormat } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { newId } from "@coppice/proto/kit/id";
import { expect, test } from "vitest";
import { createBackup } from "./create-backup.ts";
import type { OperationSpec } from "./kind.ts";
import { kinds } from "./registry.ts";

const time = timestampFromDate(new Date("2026-11-20T12:00:00Z"));
const ids = { backup: "bkp_a", cluster: "cls_a", repository: "rep_a" };

function spec(init: NonNullable<MessageInitShape<typeof OperationSchema>["spec"]>): OperationSpec {
  const made = create(OperationSchema, { spec: init }).spec;
  if (made.case === undefined) throw new Error("a spec has a case");
  return made;
}

function answer(init: NonNullable<MessageInitShape<typeof ResultSchema>["result"]>): Result["result"] {
  return create(ResultSchema, { result: init }).result;
}

const specs: Record<keyof typeof kinds, OperationSpec> = {
  checkCluster: spec({ case: "checkCluster", value: ids }),
  checkRepository: spec({ case: "checkRepository", value: ids }),
  createBackup: spec({ case: "createBackup", value: { ...ids, folder: "f" } }),
  verifyBackup: spec({ case: "verifyBackup", value: ids }),
  planRestore: spec({ case: "planRestore", value: { restore: ids } }),
  createRestore: spec({ case: "createRestore", value: { ...ids, targetCluster: "cls_b", targetDatabase: "copy" } }),
  deleteBackup: spec({ case: "deleteBackup", value: ids }),
  restoreCluster: spec({ case: "restoreCluster", value: { ...ids, targetCluster: "cls_b", databases: ["a", "b"] } }),
  restoreGlobals: spec({ case: "restoreGlobals", value: { ...ids, targetCluster: "cls_b" } }),
  cleanRepository: spec({ case: "cleanRepository", value: ids }),
  rebuildRepository: spec({ case: "rebuildRepository", value: ids }),
  createPhysicalBackup: spec({ case: "createPhysicalBackup", value: { ...ids, kind: BackupKind.FULL, folder: "f" } }),
  restorePhysical: spec({ case: "restorePhysical", value: { ...ids, chain: ["bkp_a"], dataDirectory: "/d" } }),
  planPhysical: spec({ case: "planPhysical", value: { restore: ids } }),
  verifyWal: spec({ case: "verifyWal", value: { ...ids, systemIdentifier: "7" } }),
  cleanWal: spec({ case: "cleanWal", value: { ...ids, systemIdentifier: "7", segmentBytes: 16n } }),
  recoverPart: spec({ case: "recoverPart", value: { restore: { ...ids, chain: ["bkp_a"] }, file: "/x.dump" } }),
  planPart: spec({ case: "planPart", value: { part: { restore: ids } } }),
  decideRestore: spec({
    case: "decideRestore",
    value: { targetCluster: "cls_a", targetDatabase: "orders", decision: RestoreDecision.SWAP },
  }),
};

const dump = (manifest: MessageInitShape<typeof BackupDumpResultSchema>["manifest"] = {}) =>
  answer({
    case: "backupDump",
    value: {
      manifest: {
        backupId: "bkp_a",
        clusterId: "cls_a",
        kind: BackupKind.DUMP,
        complete: true,
        startTime: time,
        endTime: time,
        content: { case: "dump", value: {} },
        ...manifest,
      } as NonNullable<typeof manifest>,
      manifestSha256: "0".repeat(64),
    },
  });

const all = Object.values(kinds).flatMap((kind) => (kind.does === "command" ? [kind] : []));

test.for(all.map((kind) => [kind.spec, kind] as const))(
  "%s never succeeds without a result of its own",
  ([name, kind]) => {
    for (const other of [undefined, ...all.map(({ command }) => command), "settle" as const]) {
      if (other === kind.command) continue;
      const result = other === undefined ? create(ResultSchema).result : answer({ case: other, value: {} });
      const { failure, changes } = kind.apply(specs[name], { result });
      expect(failure?.reason).toBe("AGENT_ANSWER_INVALID");
      expect(changes).toEqual([]);
    }
  },
);

test.for(all.map((kind) => [kind.spec, kind] as const))("%s fails with its agent's failure", ([name, kind]) => {
  const failure = create(FailureDetailSchema, { reason: "REPOSITORY_FULL", message: "full" });
  const applied = kind.apply(specs[name], { result: create(ResultSchema).result, failure });
  expect(applied.failure).toBe(failure);
  expect(applied.result).toBeUndefined();
  expect(applied.changes.every(({ is }) => is === "repositoryTried" || is === "clusterTried")).toBe(true);
});

test("a kind refuses the spec of another one", () => {
  expect(() => kinds.checkCluster.plan(specs.deleteBackup, {})).toThrow("a deleteBackup is not a checkCluster");
});

test("exactly the kinds whose commands change something are settled by a look", () => {
  expect(all.filter(({ settle }) => settle === "look").map(({ spec: name }) => name)).toEqual([
    "createBackup",
    "createRestore",
    "deleteBackup",
    "createPhysicalBackup",
    "restorePhysical",
    "recoverPart",
    "decideRestore",
  ]);
});

test("a backup that lacks what was excluded or dropped is complete", () => {
  const missing = [
    { name: "left-out", reason: MissingReason.EXCLUDED },
    { name: "gone", reason: MissingReason.DROPPED },
  ];
  const applied = createBackup.apply(specs.createBackup, {
    result: dump({ content: { case: "dump", value: { missing } } } as object),
  });
  expect(applied.failure).toBeUndefined();
});

test("a manifest that says it is complete and lacks a database is not believed", () => {
  const missing = [{ name: "closed", reason: MissingReason.CONNECTIONS_FORBIDDEN }];
  const applied = createBackup.apply(specs.createBackup, {
    result: dump({ content: { case: "dump", value: { missing } } } as object),
  });
  expect(applied.failure?.reason).toBe("AGENT_ANSWER_INVALID");
  expect(applied.failure?.message).toContain('lacks "closed"');
});

test("an incomplete backup is stored, and the failure names what it lacks", () => {
  const missing = [
    { name: 'a "quoted" one', reason: MissingReason.FAILED },
    { name: "left-out", reason: MissingReason.EXCLUDED },
  ];
  const { failure, changes } = createBackup.apply(specs.createBackup, {
    result: dump({ complete: false, content: { case: "dump", value: { missing } } } as object),
  });
  expect(failure?.message).toBe('the backup is stored and lacks databases: "a \\"quoted\\" one"');
  expect(changes.map(({ is }) => is)).toContain("backupStored");
});

test.for([
  ["no selection", {}, true],
  ["some databases", { databases: ["orders"] }, false],
  ["one left out that could be dumped", { excludeDatabases: ["orders"] }, false],
  ["one left out that forbids connections", { excludeDatabases: ["closed"] }, true],
  ["some tables", { databases: ["orders"], tables: ["t"] }, false],
  ["a table's rows left out", { excludeTableData: ["log"] }, false],
  ["definitions only", { contents: DumpContents.SCHEMA_ONLY }, false],
  ["no large objects", { noLargeObjects: true }, false],
  ["no owners and another format", { noOwner: true, format: DumpFormat.PLAIN }, true],
] as const)("with %s the default set is %o: %s", ([, options, expected]) => {
  const chosen = spec({
    case: "createBackup",
    value: { ...ids, dump: { databases: [], excludeDatabases: [], ...options } as object },
  });
  const result = dump();
  if (result.case === "backupDump") {
    result.value.facts = create(BackupDumpResultSchema, {
      facts: {
        databases: [
          { name: "orders", allowConnections: true },
          { name: "closed", allowConnections: false },
        ],
      },
    }).facts;
  }
  const stored = createBackup.apply(chosen, { result }).changes.find(({ is }) => is === "backupStored");
  expect(stored?.is === "backupStored" && stored.backup.defaultDatabases).toBe(expected);
});

test("a verification without objects proves nothing, and one that could not read says nothing about the bytes", () => {
  const empty = kinds.verifyBackup.apply(specs.verifyBackup, { result: answer({ case: "verifyBackup", value: {} }) });
  expect(empty.failure?.reason).toBe("AGENT_ANSWER_INVALID");
  const failure = create(FailureDetailSchema, { reason: "REPOSITORY_UNREACHABLE", message: "away" });
  const away = kinds.verifyBackup.apply(specs.verifyBackup, { result: create(ResultSchema).result, failure });
  expect(away.changes.map(({ is }) => is)).toEqual(["repositoryTried"]);
});

test("what a verification may not read is not called damaged, and what is wrong beside it is", () => {
  const problem = { key: "db/1", message: "cannot read db/1: AccessDenied", affects: "orders" };
  const verified = (reason: string) =>
    kinds.verifyBackup.apply(specs.verifyBackup, {
      result: answer({
        case: "verifyBackup",
        value: { problems: [{ ...problem, isUnread: true }, ...(reason === "OBJECT_MISSING" ? [problem] : [])] },
      }),
      failure: create(FailureDetailSchema, { reason, message: "said" }),
    });
  const denied = verified("REPOSITORY_NOT_READABLE");
  expect(denied.failure?.reason).toBe("REPOSITORY_NOT_READABLE");
  expect(denied.result?.case === "verifiedBackup" && denied.result.value.problems).toHaveLength(1);
  expect(denied.changes).toEqual([{ is: "repositoryTried", repositoryId: "rep_a", problem: "said" }]);
  expect(verified("OBJECT_MISSING").changes.map(({ is }) => is)).toEqual(["repositoryTried", "copyVerified"]);
});

test("a restore under another name than asked for is not believed", () => {
  const result = answer({ case: "restoreDatabase", value: { database: "other" } });
  expect(kinds.createRestore.apply(specs.createRestore, { result }).failure?.reason).toBe("AGENT_ANSWER_INVALID");
});

test("a copy is being deleted from the moment its deletion is sent, and forgotten when it is done", () => {
  expect(kinds.deleteBackup.begin(specs.deleteBackup).map(({ is }) => is)).toEqual(["copyDeleting"]);
  const result = answer({ case: "deleteBackup", value: { objects: 3 } });
  const { changes } = kinds.deleteBackup.apply(specs.deleteBackup, { result });
  expect(changes.map(({ is }) => is)).toEqual(["repositoryTried", "copyDeleted"]);
});

test("a restored cluster counts what succeeded, and names what did not", () => {
  const restored = create(OperationSchema, {
    result: { case: "restoredDatabase", value: { database: "a", tables: 2, rows: 7n, keptAs: "old", warnings: ["w"] } },
  }).result;
  const globals = create(OperationSchema, {
    result: { case: "restoredGlobals", value: { createdRoles: ["r"], differences: ["role x: other"] } },
  }).result;
  if (restored.case === undefined || globals.case === undefined) throw new Error("a result has a case");
  const database = (name: string) =>
    spec({ case: "createRestore", value: { ...ids, database: name, targetDatabase: name } });
  const { value } = kinds.restoreCluster.conclude(specs.restoreCluster, [
    { spec: specs.restoreGlobals, succeeded: true, result: globals },
    { spec: database("a"), succeeded: true, result: restored },
    { spec: database("b"), succeeded: false, result: undefined },
  ]);
  expect(value).toMatchObject({
    cluster: "cls_b",
    databases: 1,
    tables: 2,
    rows: 7n,
    keptAs: ["old"],
    warnings: ["role x: other", '"a": w'],
    restored: ["a"],
    notRestored: ["b"],
    createdRoles: ["r"],
  });
  expect(kinds.restoreCluster.nameChild(database("b"))).toBe('database "b"');
  expect(kinds.restoreCluster.nameChild(specs.restoreGlobals)).toBe("the globals");
});

test("neither a cleaning nor a rebuild touches the folder of a backup that is being written", () => {
  const contents = {
    knownFolders: ["cls_a/known"],
    activeFolders: ["cls_a/active"],
    deletingFolders: ["cls_a/going"],
    knownServers: [],
  };
  const facts = { repository: create(RepositoryTargetSchema, { repositoryId: "rep_a" }), contents };
  expect(kinds.cleanRepository.plan(specs.cleanRepository, facts).value).toMatchObject({
    activeFolders: ["active", "known"],
  });
  expect(kinds.rebuildRepository.plan(specs.rebuildRepository, facts).value).toMatchObject({
    knownFolders: ["cls_a/known", "cls_a/active"],
    activeFolders: ["cls_a/active", "cls_a/going"],
  });
});

test("a backup whose manifest a rebuild misses counts as damaged, and is named", () => {
  const id = newId("bkp");
  const result = answer({
    case: "scanRepository",
    value: { knownBackups: 2, missingFolders: [`cls_a/20261121T013000Z_full_${id}`] },
  });
  const { changes, ...applied } = kinds.rebuildRepository.apply(specs.rebuildRepository, { result });
  const problem = "the catalog knows it, and its manifest is not in the repository";
  expect(applied.result?.value).toMatchObject({
    problems: [`cls_a/20261121T013000Z_full_${id}: ${problem}; it counts as damaged`],
  });
  expect(changes).toContainEqual({ is: "copyVerified", backupId: id, repositoryId: "rep_a", problem });
});

test("a rebuild enters every cluster that the catalog can take, and names what is wrong with the others", () => {
  const [id, other] = [newId("cls"), newId("cls")];
  const sound = { systemIdentifier: "7300000000000000001", major: 18, firstSeenTime: "2026-11-20T12:00:00Z" };
  const files = [
    { formatVersion: 1, clusterId: id, name: "shop", incarnations: [sound, { systemIdentifier: "1", major: 18 }] },
    { formatVersion: 1 },
    { formatVersion: 1, clusterId: other },
    { formatVersion: 2, clusterId: other, name: "later" },
  ];
  const clusterFiles = files.map((file) => Buffer.from(JSON.stringify(file)));
  const manifest = Buffer.from(JSON.stringify({ formatVersion: 1, clusterId: id, kind: "BACKUP_KIND_DUMP", dump: {} }));
  const backups = [{ folder: "20261121T000000Z_dump_bkp_a", manifest }];
  const { result, failure, changes } = kinds.rebuildRepository.apply(specs.rebuildRepository, {
    result: answer({ case: "scanRepository", value: { clusterFiles, backups, undecrypted: true } }),
  });
  expect(failure).toBeUndefined();
  expect(result?.case === "rebuiltRepository" && result.value.undecrypted).toBe(true);
  const found = changes.flatMap((change) => (change.is === "clusterFound" ? [change.file] : []));
  expect(found).toMatchObject([
    { clusterId: id, name: "shop", incarnations: [{ systemIdentifier: sound.systemIdentifier }] },
  ]);
  expect(changes.map(({ is }) => is)).not.toContain("backupStored");
  expect(result?.case === "rebuiltRepository" && result.value.problems).toEqual([
    `cluster.json: that of ${id} describes an incarnation wrongly`,
    'cluster.json: "" is no id of a cluster',
    `cluster.json: that of ${other} names it "", which is no cluster's name`,
    `cluster.json: that of ${other} needs format version 2, which this version does not know`,
    '20261121T000000Z_dump_bkp_a: its manifest is of ""',
  ]);
});
