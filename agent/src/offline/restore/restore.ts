import { homedir } from "node:os";
import { create } from "@bufbuild/protobuf";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { restoreDatabase } from "../../logical/restore.ts";
import { findDatabase } from "../../logical/staged-database.ts";
import { matchIdentities } from "../../pipeline/age-identity.ts";
import { openConnection } from "../../postgres/connect.ts";
import { agentClientFiles, formatAddress, resolveEndpoint } from "../../postgres/endpoint.ts";
import { findDump, findCluster, readRepository, requireNewest } from "../catalog.ts";
import { parseConnection } from "../place/connection.ts";
import { confirm } from "./confirm.ts";
import { dropInitial, initialName, isUntouched } from "./initial-database.ts";
import { openPlace, type PlaceOptions } from "../place/place.ts";
import { applyGlobals, describeSource, formatGlobals, previewRestore } from "./preview.ts";
import { openProgress } from "../progress.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import { showName } from "../show-name.ts";
import { planSteps, type Restoring, type Step } from "./steps.ts";
import { readWish, type WishOptions } from "./wish.ts";
import { openWorkFolder } from "./work-folder.ts";

/** What is restored, from where and to where. */
export interface RestoreOptions extends PlaceOptions, WishOptions {
  /** Name or id of the cluster in the repository. */
  readonly cluster: string;
  readonly backup?: string;
  readonly to: string;
  readonly user?: string;
  readonly identity?: string;
  readonly jobs?: number;
  readonly plan?: boolean;
  /** What is replaced is confirmed already. */
  readonly yes?: boolean;
}

const otherBackup = "take what is missing from another backup, see coppice-agent ls: --backup ID --database NAME";
const partial = 8;
const refused = 4;

function count(number: number | bigint, one: string): string {
  return `${number} ${one}${Number(number) === 1 ? "" : "s"}`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** What another restore has left, or still works in: nobody but its owner can tell. */
async function noteLeavings(restoring: Restoring, steps: readonly Step[]): Promise<void> {
  await using connection = await openConnection(restoring.resolved, { signal: restoring.signal });
  const own = steps.map(({ command }) => command.stagedDatabase);
  const left = await connection.query<{ name: string }>(
    "select datname::text as name from pg_database where datname like 'coppice\\_restore\\_%' and datname <> all ($1)",
    [own],
  );
  for (const { name } of left)
    restoring.progress.note(`! the database ${name} is of another restore; if none is running: dropdb --force ${name}`);
}

/** Drops what initdb had made, once the restored database has its place. */
async function dropSwapped({ resolved, signal }: Restoring, target: string): Promise<void> {
  const name = initialName(target);
  await using connection = await openConnection(resolved, { signal });
  if ((await findDatabase(connection, name)) === undefined || !(await isUntouched(resolved, name, signal))) return;
  await dropInitial(connection, name);
}

async function restoreOne(restoring: Restoring, { command, isInPlace, isInitial }: Step): Promise<void> {
  const { progress } = restoring;
  const shown = showName(command.targetDatabase);
  if (isInPlace) {
    print(`✓ ${shown} is in place already, from an earlier run`);
    print("  ! it was not looked at: what was changed in it since stays; --replace restores it once more");
  } else {
    const result = await restoreDatabase({
      ...restoring,
      command,
      onProgress: progress.update,
      // Warnings come with the result.
      log: (line) => (line.startsWith("warning: ") ? undefined : progress.note(`${shown}: ${line}`)),
      onStaged: () => Promise.resolve(),
      onLeaving: (leaving) => progress.note(`! not cleared away: ${leaving}`),
    });
    progress[Symbol.dispose]();
    const { objects, tables, rows, keptAs, warnings } = result;
    const kept = keptAs === "" || isInitial ? "" : `; what was there is kept as ${showName(keptAs)}`;
    print(
      `✓ ${shown} is restored: ${count(objects, "object")} compared, ${count(tables, "table")} with ${count(rows, "row")} counted${kept}`,
    );
    for (const warning of warnings) print(`  ! ${warning}`);
  }
  if (isInitial) await dropSwapped(restoring, command.targetDatabase);
}

/** Each database by itself: one that cannot be restored keeps no other one from it. Gives the failures. */
async function restoreEach(restoring: Restoring, steps: readonly Step[]): Promise<Failure[]> {
  const failures: Failure[] = [];
  for (const step of steps) {
    try {
      await restoreOne(restoring, step);
    } catch (error) {
      restoring.signal.throwIfAborted();
      if (!isFailure(error) || steps.length === 1) throw error;
      restoring.progress[Symbol.dispose]();
      print(`✗ ${showName(step.command.database)} is not restored: ${error.message}`);
      failures.push(error);
    }
  }
  return failures;
}

/** Has it confirmed that present databases go aside; `cluster` is as it was named in the command. */
async function confirmReplacing({ wish, resolved, signal }: Restoring, steps: readonly Step[], cluster: string) {
  const replaced = steps.filter(({ command, isInitial }) => command.keptDatabase !== "" && !isInitial);
  const [first] = replaced;
  if (!first) return;
  const where = formatAddress(resolved);
  const name = wish.all ? cluster : first.command.targetDatabase;
  const names = replaced.map(({ command }) => showName(command.targetDatabase)).join(", ");
  const what = wish.all
    ? `the databases ${names} at ${where} are replaced, and everybody in them is disconnected`
    : `the database ${names} at ${where} is replaced, and everybody in it is disconnected`;
  await confirm({ what, name }, signal);
}

async function carryOut(
  restoring: Restoring,
  { plan: isPlanOnly = false, yes = false, cluster }: Pick<RestoreOptions, "plan" | "yes" | "cluster">,
): Promise<number> {
  const { wish, resolved, progress, signal } = restoring;
  progress.update(create(WorkDoneSchema, { phase: "preflight" }));
  await using connection = await openConnection(resolved, { signal });
  const steps = await planSteps(restoring, connection, new Date());
  const isAsked = wish.replace && !yes && process.stdin.isTTY;
  // A single database is looked at by its restore in the same way; who is asked sees first what would happen.
  if (isPlanOnly || wish.all || wish.globals || isAsked) {
    const { lines, lost, refusals } = await previewRestore(restoring, steps);
    progress[Symbol.dispose]();
    for (const line of lines) print(line);
    const [first] = refusals;
    if (first) {
      const more = refusals.length === 1 ? "" : `, and ${refusals.length - 1} more`;
      process.stderr.write(`✗ it would be refused: ${first.message}${more}\n  next: ${first.fix}\n`);
      process.stderr.write("  safe: nothing was touched\n");
      return refused;
    }
    const [damage] = lost;
    if (damage && lost.length === steps.length) throw damage;
    if (isPlanOnly) return damage ? partial : 0;
  } else for (const line of describeSource(restoring)) print(line);
  if (wish.replace && !yes) {
    progress[Symbol.dispose]();
    await confirmReplacing(restoring, steps, cluster);
  }
  // It would be in the way when its database is swapped.
  await connection[Symbol.asyncDispose]();
  await noteLeavings(restoring, steps);
  if (wish.globals) {
    const [made = "", ...more] = formatGlobals(await applyGlobals(restoring, false));
    for (const line of [`✓ globals: ${made}`, ...more]) print(line);
  }
  const failures = await restoreEach(restoring, steps);
  if (steps.length > 0) print("  next: vacuumdb --all --analyze-in-stages");
  const [first] = failures;
  if (!first) return 0;
  if (failures.length === steps.length) throw first;
  process.stderr.write(`✗ ${failures.length} of ${steps.length} databases are not restored\n`);
  const mend = `${first.hint}; then the same again, which goes on with what is missing`;
  process.stderr.write(`  next: ${first.code === "data_loss" ? otherBackup : mend}\n`);
  return partial;
}

/**
 * Restores from a repository with nothing but this program, or with `plan` says what that would do. Gives the exit code;
 * fails with IDENTITY_MISSING or IDENTITY_WRONG before anything but manifests is fetched, as readWish, findCluster,
 * requireNewest and findDump do, and as the restore of a single database.
 */
export async function restoreFromRepository(options: RestoreOptions, signal: AbortSignal): Promise<number> {
  const endpoint = parseConnection(options.to, options.user);
  const given = options.identity === undefined ? undefined : await readTextFile(options.identity, "identity");
  const files = agentClientFiles(process.env, homedir());
  const password = process.env["PGPASSWORD"] || undefined;
  using progress = openProgress(process.stderr);
  await using storage = await openPlace(options, signal);
  const repository = await readRepository(storage, signal);
  const cluster = findCluster(repository, options.cluster);
  if (options.backup === undefined) requireNewest(repository, cluster);
  const backup = findDump(cluster, options.backup);
  const wish = readWish(options, backup.manifest);
  const identities = matchIdentities(backup.manifest.recipients, given);
  if (wish.all && wish.databases.length === 0)
    fail("BACKUP_NOT_FOUND", `${backup.address.backupId} holds no databases`);
  const resolved = await resolveEndpoint(endpoint, password, files);
  await using work = await openWorkFolder();
  const restoring: Restoring = {
    storage,
    backup,
    wish,
    endpoint,
    resolved,
    password,
    identities,
    files,
    jobs: options.jobs ?? 1,
    workFolder: work.path,
    progress,
    signal,
  };
  try {
    return await carryOut(restoring, options);
  } catch (error) {
    if (!isFailure(error) || error.code !== "data_loss") throw error;
    const { reason, message, metadata } = error;
    throw new Failure(reason, message, { hint: otherBackup, metadata, cause: error });
  }
}
