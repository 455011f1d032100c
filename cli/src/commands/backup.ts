// All commands of one noun: what is shown of a backup and what can be done with it belong together.
import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { Option } from "commander";
import { BackupKind, BackupKindSchema } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { DumpContents, type DumpOptions } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import {
  type Backup,
  BackupSchema,
  CopyState,
  CopyStateSchema,
  ListBackupsResponseSchema,
  RecipeSchema,
} from "@coppice/proto/gen/coppice/control/v1/backup";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { MissingReasonSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { isWholeCluster } from "@coppice/proto/kit/repository/default-set";
import { formatSize } from "@coppice/proto/kit/size";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { confirm } from "../input/confirm.ts";
import { type DumpFlags, dumpFlags, dumpOptionsFromFlags } from "../input/dump-options.ts";
import { dryRunOption, hostOption, limitOption, operationOptions, yesOption } from "../input/options.ts";
import { type OperationOptions, seeThrough } from "../operation/conclude.ts";
import { formatDetails } from "../output/details.ts";
import { formatElapsed, formatRelative } from "../output/elapsed.ts";
import { enumLabel } from "../output/enum-label.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";

interface CreateOptions extends OperationOptions, DumpFlags {
  readonly to?: string;
  readonly dryRun?: boolean;
}

interface ListOptions {
  readonly cluster?: string;
  readonly repository?: string;
  readonly limit: number;
}

interface VerifyOptions extends OperationOptions {
  readonly from?: string;
  readonly content?: boolean;
  readonly host?: string;
}

interface DeleteOptions extends OperationOptions {
  readonly last?: boolean;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

const backupArgument = ["<backup>", "id: bkp_…"] as const;
const exampleId = "bkp_01kaj3v8m2e7rv1q6c0d9w5x4t";

/** `coppice backup …` */
export function addBackupCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "backup", "take, look at, verify and delete backups");
  addCommand<CreateOptions>(group, execute, {
    name: "create",
    summary: "take a backup of a cluster",
    arguments: [["<cluster>", "name or id"]],
    options: [
      new Option("--kind <kind>", "what to take").choices(["dump"]).default("dump"),
      new Option("--to <repository>", "repository to store it in (the only one)"),
      ...dumpFlags(),
      dryRunOption(),
      ...operationOptions(),
    ],
    examples: [
      "coppice backup create shop",
      "coppice backup create shop --to main --database orders --database customers",
      "coppice backup create shop --format plain --codec gzip --cluster-dump",
      "coppice backup create shop --database orders --table public.log* --statement-timeout 2h",
      "coppice backup create shop --no-wait -o name",
    ],
    run: createBackup,
  });
  addCommand<ListOptions>(group, execute, {
    name: "list",
    summary: "list backups, newest first",
    options: [
      new Option("--cluster <cluster>", "only of this cluster"),
      new Option("--repository <repository>", "only in this repository"),
      limitOption(),
    ],
    examples: ["coppice backup list", "coppice backup list --cluster shop -o json"],
    run: list,
  });
  addCommand(group, execute, {
    name: "get",
    summary: "show a backup with its databases and copies",
    arguments: [backupArgument],
    examples: [`coppice backup get ${exampleId}`],
    run: get,
  });
  addCommand<VerifyOptions>(group, execute, {
    name: "verify",
    summary: "read every stored object again and compare its digest",
    arguments: [backupArgument],
    options: [
      new Option("--from <repository>", "repository whose copy is read (the only one)"),
      new Option("--content", "also decrypt, decompress and parse; what is encrypted on a host labelled may-decrypt"),
      hostOption("read it"),
      ...operationOptions(),
    ],
    examples: [`coppice backup verify ${exampleId}`, `coppice backup verify ${exampleId} --content --host db7`],
    run: verify,
  });
  addCommand<DeleteOptions>(group, execute, {
    name: "delete",
    summary: "delete a backup in every repository; it cannot be had back",
    arguments: [backupArgument],
    options: [
      new Option("--last", "also when it is the last good one of its cluster"),
      yesOption(),
      dryRunOption(),
      ...operationOptions(),
    ],
    examples: [`coppice backup delete ${exampleId} --dry-run`, `coppice backup delete ${exampleId} --yes`],
    run: remove,
  });
  addCommand(group, execute, {
    name: "recipe",
    summary: "print how to restore a backup with standard tools alone",
    arguments: [backupArgument],
    examples: [`coppice backup recipe ${exampleId} > RECOVER.txt`],
    run: recipe,
  });
}

async function createBackup(session: Session, options: CreateOptions, cluster: string): Promise<number> {
  const api = await session.api();
  const operation = await api.backups.createBackup({
    cluster,
    kind: BackupKind.DUMP,
    repository: options.to ?? "",
    dump: dumpOptionsFromFlags(options),
    requestId: session.newRequestId(),
    validateOnly: options.dryRun ?? false,
  });
  if (!options.dryRun) return await seeThrough(session, api, operation, options);
  const { spec } = operation;
  const to = spec.case === "createBackup" ? spec.value.repositoryName : "";
  await session.answer({
    json: () => protoJson(OperationSchema, operation),
    table: () => session.success(`${cluster} would be backed up to ${to}; nothing was done`),
    names: () => [cluster],
  });
  return 0;
}

/** In one word whether a backup is good: incomplete, damaged, being deleted, less than the cluster on purpose, or good. */
function health({ complete, copies, dump }: Backup): string {
  if (copies.some(({ state }) => state === CopyState.DAMAGED)) return "damaged";
  if (copies.some(({ state }) => state === CopyState.DELETING)) return "deleting";
  if (!complete) return "incomplete";
  return isWholeCluster(dump) ? "good" : "selection";
}

async function list(session: Session, options: ListOptions): Promise<void> {
  const api = await session.api();
  const { cluster = "", repository = "", limit } = options;
  const { items: backups, hasMore } = await collectPages(
    (page) => api.backups.listBackups({ page, cluster, repository }),
    ({ backups }) => backups,
    limit,
  );
  await session.answer({
    json: () => protoJson(ListBackupsResponseSchema, create(ListBackupsResponseSchema, { backups })),
    table: () =>
      backups.length === 0
        ? `no backups\n  next: coppice backup create ${cluster || "CLUSTER"}\n`
        : formatTable(
            [
              { title: "ID" },
              { title: "CLUSTER", cut: true },
              { title: "TAKEN" },
              { title: "STORED", right: true },
              { title: "STATE" },
              { title: "IN", cut: true },
            ],
            backups.map((backup) => [
              backup.id,
              backup.clusterName,
              formatRelative(timeOf(backup.startTime), session.now()),
              formatSize(backup.storedBytes),
              health(backup),
              backup.copies.map(({ repositoryName }) => repositoryName).join(","),
            ]),
          ) + (hasMore ? `only the newest ${limit} are shown: --limit\n` : ""),
    names: () => backups.map(({ id }) => id),
  });
}

async function get(session: Session, _options: object, id: string): Promise<void> {
  const api = await session.api();
  const backup = await api.backups.getBackup({ backup: id });
  await session.answer({
    json: () => protoJson(BackupSchema, backup),
    table: () => formatBackup(backup, session.now()),
    names: () => [backup.id],
  });
}

function formatBackup(backup: Backup, now: Date): string {
  const started = timeOf(backup.startTime);
  const ended = timeOf(backup.endTime);
  const details = formatDetails([
    ["id", backup.id],
    ["cluster", backup.clusterName],
    ["kind", enumLabel(BackupKindSchema, backup.kind)],
    ["state", health(backup)],
    ["taken", `${started?.toISOString() ?? "-"} (${formatRelative(started, now)})`],
    ["took", started && ended && formatElapsed(ended.getTime() - started.getTime())],
    ["size", `${formatSize(backup.databaseBytes)} → ${formatSize(backup.storedBytes)}`],
    ["format", backup.format && `${backup.format}, ${backup.codec === "none" ? "not compressed" : backup.codec}`],
    ["left out", backup.dump && leftOut(backup.dump)],
    ["encrypted", backup.recipients.length === 0 ? "no" : `by age, to ${backup.recipients.join(", ")}`],
    ["operation", backup.operation],
    ...backup.copies.map(
      ({ repositoryName, state, verifyTime, problem, folder }) =>
        [
          `in ${repositoryName}`,
          `${enumLabel(CopyStateSchema, state)}, ${verifyTime ? `verified ${formatRelative(timeOf(verifyTime), now)}` : "never verified"}` +
            `${problem ? `: ${problem}` : ""}, folder ${folder}`,
        ] as const,
    ),
  ]);
  const rows = [
    ...backup.databases.map(({ name, sizeBytes, storedBytes, snapshotLsn }) => [
      name,
      formatSize(sizeBytes),
      formatSize(storedBytes),
      snapshotLsn,
    ]),
    ...backup.missing.map(({ name, reason }) => [name, "-", "-", `missing: ${enumLabel(MissingReasonSchema, reason)}`]),
  ];
  const columns = [
    { title: "DATABASE", cut: true },
    { title: "SIZE", right: true },
    { title: "STORED", right: true },
    { title: "SNAPSHOT" },
  ];
  return rows.length === 0 ? details : `${details}\n${formatTable(columns, rows)}`;
}

/** What the flags of the dump kept out of it; empty when nothing. */
function leftOut(dump: DumpOptions): string {
  const only = (what: string, patterns: readonly string[]) =>
    patterns.length === 0 ? [] : [`all but ${what} ${patterns.join(" ")}`];
  const but = (what: string, patterns: readonly string[]) =>
    patterns.length === 0 ? [] : [`${what} ${patterns.join(" ")}`];
  return [
    ...only("databases", dump.databases),
    ...but("databases", dump.excludeDatabases),
    ...only("tables", dump.tables),
    ...only("schemas", dump.schemas),
    ...but("tables", dump.excludeTables),
    ...but("schemas", dump.excludeSchemas),
    ...but("rows of", dump.excludeTableData),
    ...(dump.contents === DumpContents.SCHEMA_ONLY ? ["rows"] : []),
    ...(dump.contents === DumpContents.DATA_ONLY ? ["definitions"] : []),
    ...(dump.noLargeObjects ? ["large objects"] : []),
    ...(dump.noRolePasswords ? ["passwords of roles"] : []),
  ].join(", ");
}

async function verify(session: Session, options: VerifyOptions, id: string): Promise<number> {
  const api = await session.api();
  const operation = await api.backups.verifyBackup({
    backup: id,
    repository: options.from ?? "",
    content: options.content ?? false,
    host: options.host ?? "",
    requestId: session.newRequestId(),
  });
  return await seeThrough(session, api, operation, options);
}

async function remove(session: Session, options: DeleteOptions, id: string): Promise<number> {
  const api = await session.api();
  const backup = await api.backups.getBackup({ backup: id });
  const what = `${backup.id} of ${backup.clusterName}, taken ${formatRelative(timeOf(backup.startTime), session.now())}, ${formatSize(backup.storedBytes)}`;
  const request = { backup: backup.id, allowLast: options.last ?? false, etag: backup.etag };
  // What would be refused is refused before anybody is asked to confirm it.
  const checked = await api.backups.deleteBackup({ ...request, validateOnly: true });
  if (options.dryRun) {
    await session.answer({
      json: () => protoJson(OperationSchema, checked),
      table: () => session.success(`${what} would be deleted; nothing was done`),
      names: () => [backup.id],
    });
    return 0;
  }
  await confirm(session, { yes: options.yes, what: `${what}, is deleted for good`, name: backup.id });
  const operation = await api.backups.deleteBackup({ ...request, requestId: session.newRequestId() });
  return await seeThrough(session, api, operation, options);
}

async function recipe(session: Session, _options: object, id: string): Promise<void> {
  const api = await session.api();
  const answer = await api.backups.getRecipe({ backup: id });
  await session.answer({
    json: () => protoJson(RecipeSchema, answer),
    table: () => answer.text,
    names: () => [answer.backup],
  });
}
