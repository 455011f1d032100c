import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { create } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  RestorePhysicalCommandSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { fail } from "@coppice/proto/kit/failure";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import { formatSize } from "@coppice/proto/kit/size";
import type { PhysicalRestore } from "../../physical/restore/inspect.ts";
import { planPhysical } from "../../physical/restore/plan.ts";
import { restorePhysical } from "../../physical/restore/restore.ts";
import { findCluster, readRepository } from "../catalog.ts";
import { openPlace, type PlaceOptions } from "../place/place.ts";
import { openProgress } from "../progress.ts";
import { confirm } from "../restore/confirm.ts";
import { chooseChain } from "./choose-chain.ts";

/** What is restored, from where and to where. */
export interface DirectoryOptions extends PlaceOptions {
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
  readonly plan?: boolean;
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

function parseTablespace(text: string): { oid: number; location: string } {
  const [, oid, location] = /^(\d{1,10})=(\/.*)$/.exec(text) ?? [];
  if (oid === undefined || location === undefined)
    return fail("INVALID_FIELD", `${JSON.stringify(text)} names no tablespace and its folder`, {
      hint: "--tablespace OID=/FOLDER; --plan shows which there are",
    });
  return { oid: Number(oid), location };
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
  const { files, dataBytes, started, endLsn, timeline, address, keptAs, warnings } = await restorePhysical({
    ...restore,
    onProgress: progress.update,
    // Warnings come with the result.
    log: (line) => (line.startsWith("warning: ") ? undefined : progress.note(line)),
    onLeaving: (leaving) => progress.note(`! not cleared away: ${leaving}`),
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
  if (!started) print(`  next: pg_ctl start -D ${dataDirectory}, as the user that owns it; it recovers by itself`);
  return 0;
}

function toCommand(options: DirectoryOptions, chain: RestorePhysicalCommand["chain"]): RestorePhysicalCommand {
  const { into, tablespace = [], replace = false, start = false, port = 0 } = options;
  return create(RestorePhysicalCommandSchema, {
    chain,
    target: {},
    dataDirectory: resolve(into),
    tablespaces: tablespace.map(parseTablespace),
    replace,
    start,
    port,
  });
}

/**
 * Makes a data directory of a physical backup with nothing but this program, or with `plan` says what that would do.
 * Gives the exit code; fails as findCluster, chooseChain and restorePhysical do. Run again after it was killed, it clears
 * away first what it had left.
 */
export async function restoreDirectory(options: DirectoryOptions, signal: AbortSignal): Promise<number> {
  const identities = options.identity === undefined ? undefined : await readTextFile(options.identity, "identity");
  await using storage = await openPlace(options, signal);
  const found = chooseChain(findCluster(await readRepository(storage, signal), options.cluster), options.backup);
  const command = toCommand(
    options,
    found.map(({ address }) => address),
  );
  const key = JSON.stringify([command.chain.map(({ backupId }) => backupId), command.dataDirectory]);
  const restore: PhysicalRestore = {
    command,
    backups: command.chain.map((address) => ({ storage, address, identities })),
    restoreCommand: undefined,
    // The same for every run of the same restore, which so knows what an earlier one left.
    operationId: `offline${createHash("sha256").update(key).digest("hex").slice(0, 24)}`,
    signal,
  };
  return options.plan ? await showPlan(restore) : await carryOut(restore, options);
}
