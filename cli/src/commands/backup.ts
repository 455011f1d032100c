// All commands of one noun: what is shown of a backup and what can be done with it belong together.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { Option } from "commander";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import {
  BackupSchema,
  type CreateBackupRequestSchema,
  InstanceChoice,
  ListBackupsResponseSchema,
  RecipeSchema,
} from "@coppice/proto/gen/coppice/control/v1/backup";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { formatSize } from "@coppice/proto/kit/size";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { formatBackup, formatBackups } from "./backup/describe.ts";
import {
  type BaseBackupFlags,
  baseBackupFlags,
  baseBackupOptionsFromFlags,
  refuseBaseBackupFlags,
} from "../input/base-backup-options.ts";
import { confirm } from "../input/confirm.ts";
import { type DumpFlags, dumpFlags, dumpOptionsFromFlags } from "../input/dump-options.ts";
import { dryRunOption, hostOption, limitOption, operationOptions, yesOption } from "../input/options.ts";
import { type OperationOptions, seeThrough } from "../operation/conclude.ts";
import { formatRelative } from "../output/elapsed.ts";
import { protoJson } from "../output/proto-json.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";

const kinds = { dump: BackupKind.DUMP, full: BackupKind.FULL, incremental: BackupKind.INCREMENTAL } as const;

const choices = {
  primary: InstanceChoice.PRIMARY,
  standby: InstanceChoice.STANDBY,
  "prefer-standby": InstanceChoice.PREFER_STANDBY,
} as const;

interface CreateOptions extends OperationOptions, DumpFlags, BaseBackupFlags {
  readonly kind: keyof typeof kinds;
  readonly instance?: keyof typeof choices;
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
      new Option(
        "--kind <kind>",
        "dump: by pg_dump; full: the whole cluster byte by byte; incremental: what changed since its parent, from PostgreSQL 17 on",
      )
        .choices(Object.keys(kinds))
        .default("dump"),
      new Option(
        "--to <repository>",
        "repository to store it in (where its WAL goes, or its newest backup is; or the only one)",
      ),
      new Option(
        "--instance <which>",
        "server to take it of, where the cluster has several (the primary, as far as it is known)",
      ).choices(Object.keys(choices)),
      ...baseBackupFlags(),
      ...dumpFlags(),
      dryRunOption(),
      ...operationOptions(),
    ],
    examples: [
      "coppice backup create shop",
      "coppice backup create shop --to main --database orders --database customers",
      "coppice backup create shop --format plain --codec gzip --cluster-dump",
      "coppice backup create shop --database orders --table public.log* --statement-timeout 2h",
      "coppice backup create shop --kind full",
      "coppice backup create shop --kind incremental",
      "coppice backup create shop --kind incremental --method wal",
      "coppice backup create shop --kind full --instance prefer-standby",
      "coppice backup create shop --kind full --wal archive --wal-wait 10m",
      "coppice backup create shop --kind full --wal embedded --max-rate 50MB --checkpoint spread",
      "coppice backup create shop --no-wait -o name",
    ],
    run: createBackup,
  });
  addCommand<ListOptions>(group, execute, {
    name: "list",
    summary: "list backups, newest first, each with those that build on it",
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
    summary: "show a backup with what it holds and its copies",
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

/** Kind and options of the backup that the flags ask for. Errors: INVALID_FIELD for flags of another kind. */
function readHow(
  options: CreateOptions,
): Pick<MessageInitShape<typeof CreateBackupRequestSchema>, "kind" | "dump" | "physical"> {
  const kind = kinds[options.kind];
  if (kind !== BackupKind.DUMP) return { kind, physical: baseBackupOptionsFromFlags(kind, options) };
  refuseBaseBackupFlags(options);
  return { kind, dump: dumpOptionsFromFlags(options) };
}

async function createBackup(session: Session, options: CreateOptions, cluster: string): Promise<number> {
  const how = readHow(options);
  const api = await session.api();
  const operation = await api.backups.createBackup({
    cluster,
    ...how,
    repository: options.to ?? "",
    instance: options.instance ? choices[options.instance] : InstanceChoice.UNSPECIFIED,
    requestId: session.newRequestId(),
    validateOnly: options.dryRun ?? false,
  });
  if (!options.dryRun) return await seeThrough(session, api, operation, options);
  const { spec, hostName } = operation;
  const by = options.instance ? `, by the agent of ${hostName},` : "";
  const isKnown = spec.case === "createBackup" || spec.case === "createPhysicalBackup";
  const to = isKnown ? spec.value.repositoryName : "";
  const wal =
    spec.case !== "createPhysicalBackup"
      ? ""
      : spec.value.walRepository === ""
        ? ", its WAL in it"
        : ", its WAL in the archive there";
  const full =
    spec.case === "createPhysicalBackup" && spec.value.fullReason ? `, as a full one: ${spec.value.fullReason}` : "";
  await session.answer({
    json: () => protoJson(OperationSchema, operation),
    table: () =>
      session.success(`${cluster} would be backed up${by} to ${to}${wal}${full}; nothing was done`, {
        facts: isKnown && spec.value.standbyMissed ? [`! ${spec.value.standbyMissed}`] : [],
      }),
    names: () => [cluster],
  });
  return 0;
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
        : formatBackups(backups, session.now()) + (hasMore ? `only the newest ${limit} are shown: --limit\n` : ""),
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
