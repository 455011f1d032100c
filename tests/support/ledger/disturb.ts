import { setTimeout as delay } from "node:timers/promises";
import type { Fault } from "../faults/fault-proxy.ts";
import { waitFor } from "../installation.ts";
import type { LedgerLab } from "./ledger-lab.ts";
import type { Random } from "./random.ts";

/** Something that goes wrong with a lab under load, and is over when it resolves. */
export type Disturbance = (lab: LedgerLab, random: Random) => Promise<void>;

const mostPauseMs = 1000;
/** Segments that are written and thrown away while nothing keeps them. */
const lostSegments = 3;

async function killAgent({ installation }: LedgerLab, random: Random): Promise<void> {
  await installation.agent("db7").end("SIGKILL");
  await delay(random.number(mostPauseMs));
  installation.startAgent("db7");
}

async function killControlPlane({ installation }: LedgerLab, random: Random): Promise<void> {
  await installation.controlPlane().end("SIGKILL");
  await delay(random.number(mostPauseMs));
  await installation.startControlPlane();
}

/** Every connection of the agent: the stream, and the one that reads the clock. */
async function cutConnections({ server }: LedgerLab): Promise<void> {
  await server
    .sql(
      "postgres",
      `select pg_terminate_backend(pid) from pg_stat_activity
        where pid <> pg_backend_pid() and (backend_type = 'walsender' or datname = 'postgres')`,
    )
    .catch(() => "");
}

async function stopServer({ server }: LedgerLab, random: Random): Promise<void> {
  await server.stop("immediate");
  await delay(random.number(mostPauseMs));
  await server.start();
}

/** Something to store, and a while. */
async function writeMeanwhile({ server }: LedgerLab, random: Random): Promise<void> {
  const forMs = 1000 + random.number(2 * mostPauseMs);
  // A server that something else has stopped meanwhile is stopped.
  await server.sql("postgres", "select pg_switch_wal()").catch(() => "");
  await delay(forMs);
}

const takeRepositoryAway: Disturbance = (lab, random) => lab.store.whileAway(() => writeMeanwhile(lab, random));

const troubleStore =
  (fault: Fault): Disturbance =>
  (lab, random) =>
    lab.store.whileTroubled(fault, () => writeMeanwhile(lab, random));

/** Ends the present segment while the load goes on. */
async function switchSegment({ server }: LedgerLab): Promise<void> {
  await server.sql("postgres", "select pg_switch_wal()").catch(() => "");
}

/**
 * Has the server throw away what the slot held while the agent is dead: a gap, which has to be declared. A full backup
 * makes later times reachable, the first time one that nobody asks for: it is begun once in six hours. What cannot be
 * reached is added to the lab's lost times.
 */
async function leaveGap(lab: LedgerLab, giveUp: (query: Query) => Promise<void>): Promise<void> {
  const { installation, server, lost } = lab;
  const query = (sql: string) => server.sql("postgres", sql);
  const present = await query("select pg_walfile_name(pg_current_wal_insert_lsn())");
  const fromUs = Date.now() * 1000;
  await installation.agent("db7").end("SIGKILL");
  await waitFor("the slot is free", async () => {
    return (await query("select count(*) from pg_replication_slots where active")) === "0";
  });
  await giveUp(query);
  let surelyUs = 0;
  for (let count = 0; count < lostSegments; count++) {
    // Without anything in it a segment is not ended.
    await query("select txid_current(); select pg_switch_wal()");
    if (count === 1) surelyUs = Date.now() * 1000;
    await delay(200);
  }
  await waitFor("the server has thrown away what nothing keeps", async () => {
    await query("checkpoint");
    return (await query(`select count(*) from pg_ls_waldir() where name = '${present}'`)) === "0";
  });
  await query("alter system reset max_slot_wal_keep_size");
  await query("select pg_reload_conf()");
  installation.startAgent("db7");
  await waitFor("the gap is declared", async () => ((await lab.status()).extents ?? []).length > lost.length + 1);
  const toUs = lost.length === 0 ? (await lab.automaticBackup()).timeUs : await lab.backup();
  lost.push({ fromUs, surelyUs, toUs });
}

type Query = (sql: string) => Promise<string>;

/** Somebody drops the slot. */
export const dropSlot = (lab: LedgerLab) =>
  leaveGap(lab, async (query) => {
    await query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  });

/** The server gives the slot up, for it keeps more than it may. */
export const outgrowSlot = (lab: LedgerLab) =>
  leaveGap(lab, async (query) => {
    await query("alter system set max_slot_wal_keep_size = '1MB'");
    await query("select pg_reload_conf()");
  });

/** What passes without a gap, by its name. */
export const passing = {
  "agent killed": killAgent,
  "control plane killed": killControlPlane,
  "connections cut": cutConnections,
  "server stopped at once": stopServer,
  "repository away": takeRepositoryAway,
  "segment ended": switchSegment,
} as const satisfies Record<string, Disturbance>;

/** What passes of a store that is reached by requests, by its name. */
export const passingStores = {
  "store slow": troubleStore({ is: "delay", ms: 1500 }),
  "store hanging": troubleStore({ is: "hang" }),
  "store answering 503": troubleStore({ is: "answer", status: 503 }),
  "store answering 500": troubleStore({ is: "answer", status: 500 }),
  "store cut off": troubleStore({ is: "drop" }),
  "store's answers lost": troubleStore({ is: "drop-answer" }),
} as const satisfies Record<string, Disturbance>;
