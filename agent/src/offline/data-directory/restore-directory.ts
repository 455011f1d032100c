import { createHash } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { create } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  RestorePhysicalCommandSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { type Failure, fail } from "@coppice/proto/kit/failure";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import type { RecoveryFlags } from "@coppice/proto/kit/recovery-point/recovery-flags";
import { refuseUnasked } from "@coppice/proto/kit/recovery-point/refuse-unasked";
import { formatSize } from "@coppice/proto/kit/size";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import type { PhysicalRestore } from "../../physical/restore/inspect.ts";
import { chooseOwner } from "../../physical/restore/owner.ts";
import { planPhysical } from "../../physical/restore/plan.ts";
import { restorePhysical } from "../../physical/restore/restore.ts";
import { quoteShell } from "../../repository/recipe-text.ts";
import type { Storage } from "../../storage/storage.ts";
import { openReplay } from "../../wal/fetch/open-replay.ts";
import { findCluster, type FoundBackup, type FoundCluster, isPhysical, readRepository } from "../catalog.ts";
import { openPlace, type PlaceOptions } from "../place/place.ts";
import { requireIdentity } from "../require-identity.ts";
import { openProgress } from "../progress.ts";
import { confirm } from "../restore/confirm.ts";
import { fetchCommand, filesOfFetch, firstSegment, tryFetchCommand } from "./fetch-command.ts";
import { describeRecovery, planFromRepository, type PlannedRecovery, seePlannedEnd } from "./plan-recovery.ts";

/** What is restored, from where and to where. */
export interface DirectoryOptions extends PlaceOptions, Omit<RecoveryFlags, "action"> {
  /** Name or id of the cluster in the repository. */
  readonly cluster: string;
  /** Data directory to make. */
  readonly into: string;
  readonly backup?: string;
  readonly identity?: string;
  readonly start?: boolean;
  readonly port?: number;
  /** OID=FOLDER, one for each tablespace that gets another place. */
  readonly tablespace?: readonly string[];
  readonly replace?: boolean;
  readonly keepFailed?: boolean;
  readonly plan?: boolean;
  /** Warnings of the plan that are accepted. */
  readonly accept?: readonly string[];
  /** What is replaced is confirmed already. */
  readonly yes?: boolean;
}

const refused = 4;
const marks: Readonly<Record<CheckStatus, string>> = {
  [CheckStatus.UNSPECIFIED]: "?",
  [CheckStatus.OK]: "✓",
  [CheckStatus.WARNING]: "!",
  [CheckStatus.FAILED]: "✗",
};

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function parseTablespace(text: string): { oid: number; location: string; named: boolean } {
  const [, oid, location] = /^(\d{1,10})=(\/.*)$/.exec(text) ?? [];
  if (oid === undefined || location === undefined)
    return fail("INVALID_FIELD", `${JSON.stringify(text)} names no tablespace and its folder`, {
      hint: "--tablespace OID=/FOLDER; --plan shows which there are",
    });
  return { oid: Number(oid), location, named: true };
}

async function showPlan(restore: PhysicalRestore): Promise<number> {
  const { items, steps, storedBytes, neededBytes } = await planPhysical(restore);
  for (const { name, status, message } of items) print(`${marks[status]} ${name}: ${message}`);
  for (const [index, step] of steps.entries()) print(`${index + 1}. ${step}`);
  print(`reads ${formatSize(storedBytes)}, needs ${formatSize(neededBytes)}`);
  const first = items.find(({ status }) => status === CheckStatus.FAILED);
  if (!first) return 0;
  process.stderr.write(`✗ it would be refused: ${first.message}\n  next: ${first.fix}\n  safe: nothing was touched\n`);
  return refused;
}

async function carryOut(restore: PhysicalRestore, { replace = false, yes = false }: DirectoryOptions): Promise<number> {
  const { command, signal } = restore;
  const { dataDirectory } = command;
  if (replace && !yes)
    await confirm({ what: `what is in ${dataDirectory} is moved aside`, name: dataDirectory }, signal);
  using progress = openProgress(process.stderr);
  const { files, dataBytes, started, endLsn, timeline, address, keptAs, warnings, programFolder } =
    await restorePhysical({
      ...restore,
      onProgress: progress.update,
      // Warnings come with the result.
      log: (line) => (line.startsWith("warning: ") ? undefined : progress.note(line)),
      onLeaving: (leaving) => progress.note(`! left behind: ${leaving}`),
      onRestored: () => Promise.resolve(),
    });
  progress[Symbol.dispose]();
  print(
    `✓ ${dataDirectory} is restored: ${files} files, ${formatSize(dataBytes)}, each compared with PostgreSQL's manifest`,
  );
  if (keptAs !== "") print(`  what was there is kept as ${keptAs}`);
  if (started)
    print(`✓ its server has recovered to ${endLsn} on timeline ${timeline}${address === "" ? "" : `, at ${address}`}`);
  for (const warning of warnings) print(`  ! ${warning}`);
  const pgCtl = quoteShell(join(programFolder, "pg_ctl"));
  if (started)
    print(
      `  nobody starts it after a reboot: to hand it to your service manager, ${pgCtl} stop -D ${quoteShell(dataDirectory)} and start it there`,
    );
  if (!started)
    print(`  next: ${pgCtl} start -D ${quoteShell(dataDirectory)}, as the user that owns it; it recovers by itself`);
  return 0;
}

function toCommand(
  options: DirectoryOptions,
  { backups }: FoundCluster,
  { plan, target }: PlannedRecovery,
  expectedEnd: bigint | undefined,
): RestorePhysicalCommand {
  const { into, tablespace = [], replace = false, start = false, port = 0, keepFailed = false } = options;
  const { chain, walEndLsn } = plan;
  return create(RestorePhysicalCommandSchema, {
    chain: chain.map(
      (id) =>
        backups.find(({ address }) => address.backupId === id)?.address ??
        fail("BACKUP_NOT_FOUND", `the planned backup ${id} is gone`),
    ),
    target,
    dataDirectory: resolve(into),
    tablespaces: tablespace.map(parseTablespace),
    replace,
    start,
    port,
    keepFailed,
    expectedEndLsn: expectedEnd === undefined ? "" : formatLsn(expectedEnd),
    walEndLsn: walEndLsn === undefined ? "" : formatLsn(walEndLsn),
  });
}

/** A restore_command, and what has to be kept in mind with it. */
interface WalSupply extends AsyncDisposable {
  readonly restoreCommand: string | undefined;
  /** As of a Replay. */
  readonly refused?: () => Failure | undefined;
  readonly remarks: readonly string[];
}

/**
 * How the server gets archived WAL: while this program starts it and waits, from this program, which alone has to reach
 * the repository; started later by somebody else, by a command of its own that is tried beforehand.
 */
async function openSupply(
  options: DirectoryOptions,
  { plan, input, place }: PlannedRecovery,
  { storage, identities, signal }: { storage: Storage; identities: string | undefined; signal: AbortSignal },
): Promise<WalSupply> {
  await using stack = new AsyncDisposableStack();
  if (plan.walRepository === undefined) return { restoreCommand: undefined, remarks: [], ...ending(stack) };
  const { walEndLsn: endLsn } = plan;
  if (options.start) {
    const workFolder = await mkdtemp(join(tmpdir(), "coppice-wal-"));
    stack.defer(() => rm(workFolder, { recursive: true, force: true }));
    // The server's user has to pass through.
    await chmod(workFolder, 0o711);
    const wal = { place, identities, endLsn, signal };
    const user = await chooseOwner(resolve(options.into), signal);
    const server = { dataDirectory: resolve(options.into), isScratch: false };
    const replay = stack.use(await openReplay({ storage, workFolder, user, server, wal, onServed: () => {} }));
    return { restoreCommand: replay.restoreCommand, refused: replay.refused, remarks: [], ...ending(stack) };
  }
  const restoreCommand = fetchCommand({ ...options, clusterId: place.clusterId, endLsn });
  const segment = firstSegment(input.extents, plan, (timeline, lsn) => segmentName(timeline, lsn, input.segmentBytes));
  const user = await chooseOwner(resolve(options.into), signal);
  const { systemIdentifier } = place;
  const remarks = await tryFetchCommand(restoreCommand, {
    repo: options.repo,
    user,
    segment,
    systemIdentifier,
    signal,
  });
  return { restoreCommand, remarks, ...ending(stack) };
}

function ending(stack: AsyncDisposableStack): AsyncDisposable {
  const resources = stack.move();
  return { [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

/**
 * Makes a data directory as a cluster was at a point in time, with nothing but this program and a repository, or with
 * `plan` says what that would do. Gives the exit code; fails as findCluster, requireIdentity, planFromRepository and restorePhysical do. Run
 * again after it was killed, it clears away first what it had left.
 */
export async function restoreDirectory(options: DirectoryOptions, signal: AbortSignal): Promise<number> {
  const identities = options.identity === undefined ? undefined : await readTextFile(options.identity, "identity");
  await using storage = await openPlace(options, signal);
  const repository = await readRepository(storage, signal);
  const cluster = findCluster(repository, options.cluster);
  for (const { clusterId, key, message } of repository.unreadable)
    if (clusterId === cluster.id) process.stderr.write(`! left out: ${key}: ${message}\n`);
  const { backup, accept = [] } = options;
  const isMeant = (one: FoundBackup) => isPhysical(one) && (backup === undefined || one.address.backupId === backup);
  requireIdentity(cluster.backups.filter(isMeant), identities);
  const planned = await plan(cluster, options, { storage, identities, signal });
  for (const line of describeRecovery(planned.plan)) print(line);
  refuseUnasked(cluster.name, planned.plan, { isBackupNamed: backup !== undefined, accept });
  const command = toCommand(options, cluster, planned, await seePlannedEnd(storage, planned, { identities, signal }));
  await using supply = await openSupply(options, planned, { storage, identities, signal });
  const restore: PhysicalRestore = {
    command,
    backups: command.chain.map((address) => ({ storage, address, identities })),
    restoreCommand: supply.restoreCommand,
    refusedWal: supply.refused,
    needed: filesOfFetch(options),
    // The same for every run into that directory, which so knows what an earlier one left.
    operationId: `offline${createHash("sha256").update(command.dataDirectory).digest("hex").slice(0, 24)}`,
    signal,
  };
  if (options.plan) return await showPlan(restore);
  const exitCode = await carryOut(restore, options);
  for (const remark of supply.remarks) print(`  ! ${remark}`);
  return exitCode;
}

async function plan(
  cluster: FoundCluster,
  options: DirectoryOptions,
  source: { storage: Storage; identities: string | undefined; signal: AbortSignal },
): Promise<PlannedRecovery> {
  using progress = openProgress(process.stderr);
  const work = create(WorkDoneSchema, { phase: "looking for that time in the WAL" });
  const onSegment = (name: string) => {
    work.item = name;
    progress.update(work);
  };
  const request = { flags: options, backup: options.backup, now: new Date() };
  return await planFromRepository(cluster, request, { ...source, onSegment });
}
