import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../connect.ts";
import { formatAddress } from "../endpoint.ts";
import { quoteIdentifier } from "../quote.ts";
import { openReplication } from "../replication/open-replication.ts";
import { findArchiver } from "./archiver.ts";
import { checkConfiguration } from "./configuration.ts";
import { incrementalDefect } from "./incremental-defects.ts";
import { type Item, mendable, mendableByRestart, ok, warning } from "./item.ts";
import { readServerSettings, type ServerSettings } from "./server-settings.ts";
import { judgeWalRoom, seeWalRoom } from "./wal-room.ts";

/** A backup takes one for its pages and one for its WAL. */
const sendersNeeded = 2;
const slotsNeeded = 1;
const usualLimit = 10;
const spare = 5;
const reload = "SELECT pg_reload_conf();";
/** A defect that no release mends and no setting keeps away: it says so, as a gate would make every incremental a full one. */
const soundBut =
  "sound, but where VACUUM truncates a table and a bulk load fills it again between two backups, rows that were deleted come back: --method wal, or full backups, for such";
const leastSlotLimitMib = 4096n;
const mebibyte = 1024n * 1024n;

const raise = (setting: string, used: number) => `ALTER SYSTEM SET ${setting} = ${Math.max(usualLimit, used + spare)};`;

/** The handshake that backups and the receiver of WAL begin with: undefined when it comes about. */
async function tryHandshake(
  { endpoint }: PostgresConnection,
  { systemIdentifier }: ClusterFacts,
  signal: AbortSignal,
): Promise<Failure | undefined> {
  try {
    await using replication = await openReplication(endpoint, { signal });
    const seen = await replication.identify();
    if (seen.systemIdentifier === systemIdentifier) return undefined;
    const where = formatAddress(endpoint);
    const message = `at ${where} it reaches another cluster, ${seen.systemIdentifier} instead of ${systemIdentifier}`;
    return new Failure("CLUSTER_CHANGED", message, {
      hint: "name the server itself as endpoint, no pooler or balancer",
    });
  } catch (error) {
    signal.throwIfAborted();
    if (!isFailure(error)) throw error;
    return error;
  }
}

function checkLimits(settings: ServerSettings): Item[] {
  const { walLevel, maxSenders, usedSenders, maxSlots, usedSlots, idleSlots, pending } = settings;
  const items: Item[] = [];
  const isMinimal = walLevel === "minimal";
  const level = "ALTER SYSTEM SET wal_level = replica;";
  const waiting = "restart the server: what was changed waits for that";
  const add = (name: string, setting: string, message: string, statements: string[]) =>
    items.push(pending.has(setting) ? warning(name, message, waiting) : mendableByRestart(name, message, statements));
  if (isMinimal)
    add("wal-level", "wal_level", "wal_level is minimal: no physical backups, and no WAL to archive", [level]);
  if (maxSenders - usedSenders < sendersNeeded)
    add(
      "senders",
      "max_wal_senders",
      `${maxSenders - usedSenders} of ${maxSenders} WAL senders are free, and a physical backup takes ${sendersNeeded}`,
      // With minimal a server that may have senders does not start.
      [...(isMinimal ? [level] : []), raise("max_wal_senders", usedSenders)],
    );
  if (maxSlots - usedSlots < slotsNeeded) {
    const idle = idleSlots.length > 0 ? `; nobody uses ${idleSlots.join(", ")}` : "";
    const message = `none of ${maxSlots} replication slots is free, and a physical backup takes ${slotsNeeded}${idle}`;
    add("slots", "max_replication_slots", message, [raise("max_replication_slots", usedSlots)]);
  }
  return items;
}

function checkArchiver(settings: ServerSettings): Item[] {
  const found = findArchiver(settings);
  if (found === undefined) return [];
  const { name, by } = found;
  const off = ["ALTER SYSTEM SET archive_mode = off;"];
  if (by === "nothing")
    return [
      mendableByRestart(
        "archiving",
        "archive_mode is on and nothing archives: the server keeps all its WAL until the disk is full",
        off,
      ),
    ];
  if (by === "coppice") return [ok("archiving", "archive_command hands WAL to Coppice's agent")];
  if (by === "discard")
    return [ok("archiving", "archive_mode is on, and its command archives nothing and keeps nothing")];
  const message = `${name} archives this server's WAL already, by ${by === "slot" ? "a replication slot" : "archive_mode"}: Coppice receives it beside that and changes nothing there`;
  if (by === "slot") return [warning("archiving", message, "drop its slot when it is no longer wanted")];
  return [mendableByRestart("archiving", message, off, "when it is no longer wanted")];
}

function checkSlotLimit({ slotLimitBytes, maxWalBytes }: ServerSettings): Item[] {
  const wanted = (4n * maxWalBytes) / mebibyte;
  const limit = wanted > leastSlotLimitMib ? wanted : leastSlotLimitMib;
  const statements = [`ALTER SYSTEM SET max_slot_wal_keep_size = '${limit}MB';`, reload];
  if (slotLimitBytes === undefined)
    return [
      mendable(
        "slot-limit",
        "max_slot_wal_keep_size is -1: while a repository is away, a slot keeps WAL until the server's disk is full",
        { statements, note: "beyond it the slot is given up, and a gap in the archive is reported" },
      ),
    ];
  if (slotLimitBytes >= maxWalBytes) return [];
  const message = "max_slot_wal_keep_size is less than max_wal_size: a short trouble with a repository makes a gap";
  return [mendable("slot-limit", message, { statements })];
}

function checkSlotTimeout({ endsIdleSlots }: ServerSettings): Item[] {
  if (!endsIdleSlots) return [];
  const message =
    "idle_replication_slot_timeout is set: while an agent is away for longer, its slot is given up, and a gap may follow";
  const statements = ["ALTER SYSTEM SET idle_replication_slot_timeout = 0;", reload];
  return [mendable("slot-timeout", message, { statements })];
}

function checkData(
  { dataChecksums, logsHints, summarizesWal, walLevel }: ServerSettings,
  { dataDirectory, serverVersionNum: versionNum }: ClusterFacts,
): Item[] {
  const items: Item[] = [];
  if (!dataChecksums)
    items.push(
      warning(
        "checksums",
        "pages have no checksums: nothing tells a backup of damaged pages from a good one",
        `stop the server, run \`pg_checksums --enable --pgdata='${(dataDirectory || "DATA-DIRECTORY").replaceAll("'", String.raw`'\''`)}'\` as its user, and start it`,
      ),
    );
  // Where it is minimal the server would not start with it.
  if (summarizesWal === false && walLevel !== "minimal")
    items.push(
      mendable(
        "summaries",
        "summarize_wal is off: no incremental backups of blocks, each becomes a full one; `--method wal` needs none of it",
        {
          statements: ["ALTER SYSTEM SET summarize_wal = on;", reload],
        },
      ),
    );
  const defect = summarizesWal === undefined ? undefined : incrementalDefect({ versionNum, logsHints });
  if (defect) {
    const message = `${defect.version} ${defect.does}: each becomes a full one`;
    const { statements, mend } = defect;
    items.push(
      statements.length > 0
        ? mendableByRestart("incrementals", message, [...statements])
        : warning("incrementals", message, mend),
    );
  } else if (summarizesWal === true) items.push(ok("incrementals", soundBut));
  return items;
}

/**
 * Looks whether physical backups can be taken and WAL be received, by the very handshake they begin with, and what speaks
 * against relying on them. All of it is a warning: dumps need none of it. Fails like a query.
 */
export async function checkPhysical(
  connection: PostgresConnection,
  facts: ClusterFacts,
  signal: AbortSignal,
): Promise<Item[]> {
  const settings = await readServerSettings(connection);
  const { mayReplicate, maxSenders, usedSenders, maxSlots, usedSlots, slotLimitBytes, maxWalBytes } = settings;
  const role = quoteIdentifier(connection.endpoint.user);
  const items = checkLimits(settings);
  if (!mayReplicate)
    items.push(
      mendable("replication-role", `the role ${role} has no REPLICATION: no physical backups, and no WAL to archive`, {
        statements: [`ALTER ROLE ${role} REPLICATION;`],
      }),
    );
  const refused = await tryHandshake(connection, facts, signal);
  // Those two are said above, with the numbers and the role.
  const isSaid =
    (refused?.reason === "SENDERS_EXHAUSTED" && items.some(({ name }) => name === "senders")) ||
    (refused?.reason === "REPLICATION_REFUSED" && refused.metadata.sqlstate === "42501" && !mayReplicate);
  if (refused && !isSaid)
    items.unshift(warning("replication", `no replication connection: ${refused.message}`, refused.hint));
  if (items.length === 0)
    items.push(
      ok(
        "replication",
        `${role} may replicate; ${maxSenders - usedSenders} WAL senders and ${maxSlots - usedSlots} slots are free`,
      ),
    );
  items.push(...checkData(settings, facts), ...checkSlotLimit(settings), ...checkSlotTimeout(settings));
  if (facts.isLocal && facts.dataDirectory) {
    const room = await seeWalRoom(facts.dataDirectory);
    items.push(judgeWalRoom({ ...room, maxWalBytes, slotLimitBytes }));
  }
  items.push(...(await checkConfiguration(connection, facts)), ...checkArchiver(settings));
  return items;
}
