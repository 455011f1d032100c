import { runProgram } from "../../../host/run.ts";
import type { ChainLink } from "../chain.ts";
import { readSettings, type ServerPlace } from "../server.ts";
import { serverProgram } from "../server-programs.ts";
import type { ChangedSettings, ExtraSettings } from "./configuration.ts";

/** What a server that replays WAL has to have at least as much of as the one that wrote it, and what pg_controldata calls it. */
const labels = {
  max_connections: "max_connections setting",
  max_locks_per_transaction: "max_locks_per_xact setting",
  max_prepared_transactions: "max_prepared_xacts setting",
  max_wal_senders: "max_wal_senders setting",
  max_worker_processes: "max_worker_processes setting",
} as const;
const names = Object.keys(labels) as readonly (keyof typeof labels)[];

type Wanted = ReadonlyMap<string, number>;

async function findLess(place: ServerPlace, wanted: Wanted): Promise<ExtraSettings> {
  const present = await readSettings(place, [...wanted.keys()]);
  return [...wanted]
    .filter(([, value], index) => Number(present[index]) < value)
    .map(([name, value]) => [name, String(value)] as const);
}

/**
 * Settings that are raised to what the backups' server had when they were taken: it may have been told on its command line,
 * and what its configuration says would end recovery at once.
 */
export async function findRequired(place: ServerPlace, links: readonly ChainLink[]): Promise<ChangedSettings> {
  const most = (name: string) =>
    Math.max(0, ...links.map(({ content }) => Number(content.requiredSettings[name] ?? 0) || 0));
  const settings = await findLess(place, new Map(names.map((name) => [name, most(name)])));
  const warnings = settings.map(
    ([name, value]) => `${name} is ${value}, as its server had it: its configuration says less`,
  );
  return { settings, warnings };
}

/**
 * Settings that are less than what pg_control asks for: a server notes there what the WAL that it comes by was written
 * with, before it ends or pauses because it has less.
 */
export async function findInsufficient(place: ServerPlace): Promise<ExtraSettings> {
  const { data, programs, user, signal } = place;
  const { stdout } = await runProgram(
    { file: serverProgram(programs, "pg_controldata"), args: [data], user },
    { signal },
  );
  const text = stdout.toString("utf8");
  const asked = (label: string) => Number(new RegExp(`^${label}:\\s*(\\d+)$`, "m").exec(text)?.[1] ?? 0);
  return await findLess(place, new Map(names.map((name) => [name, asked(labels[name])])));
}
