// One thing: a cluster under load whose WAL is archived, and what is asked of it once it was disturbed.
import { chown, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { lastLines } from "../background.ts";
import { freePort } from "../free-port.ts";
import { type Installation, openInstallation, waitFor } from "../installation.ts";
import { openPostgresServer, type PostgresServer } from "../postgres-servers.ts";
import { ask, asServer } from "../scenarios/restored-server.ts";
import { type ArchiveTruth, type LedgerMode, openArchiveTruth } from "./archive-truth.ts";
import { ledgerDatabase, type LedgerClients, openLedgerClients, restoredIds, tornClients } from "./clients.ts";
import { describe, judge, type LedgerTarget } from "./judge.ts";
import { type LedgerStore, openFolderStore, openS3Store } from "./ledger-store.ts";
import { waitUntilKnown } from "../wal/known-time.ts";
import type { Random } from "./random.ts";

/** What `coppice wal status` knows. */
export interface ArchiveStatus {
  readonly cluster: string;
  readonly storedLsn?: string;
  readonly timeline?: number;
  readonly systemIdentifier?: string;
  readonly trouble?: { readonly reason: string };
  readonly extents?: readonly { readonly timeline: number; readonly startLsn: string; readonly endLsn: string }[];
  readonly archiver?: { readonly isCommandSet?: boolean; readonly isHandingOver?: boolean };
}

/** What is said to be reachable by recovery, as the API gives it. */
export interface ToldWindow {
  readonly startLsn: string;
  readonly endLsn: string;
  readonly startTime?: string;
  readonly endTime?: string;
  readonly gaps?: readonly unknown[];
}

interface Operations {
  readonly operations?: readonly {
    readonly principal: string;
    readonly state: string;
    readonly failure?: { readonly message: string };
    readonly createdPhysicalBackup?: { readonly backup: string };
  }[];
}

/** Times, in microseconds since 1970, of which some cannot be recovered to: a gap is declared there. */
export interface LostTimes {
  readonly fromUs: number;
  /** Within them, and surely lost. */
  readonly surelyUs: number;
  readonly toUs: number;
}

/** An installation with one agent, db7, and a cluster, `shop`, under load, whose WAL it receives. */
export interface LedgerLab extends AsyncDisposable {
  readonly installation: Installation;
  readonly server: PostgresServer;
  readonly clients: LedgerClients;
  readonly truth: ArchiveTruth;
  /** cls_…. */
  readonly clusterId: string;
  readonly store: LedgerStore;
  readonly mode: LedgerMode;
  /** Gaps that were made on purpose. */
  readonly lost: LostTimes[];
  status(): Promise<ArchiveStatus>;
  /** The newest timeline's window. */
  window(): Promise<ToldWindow>;
  /** Takes a full backup and gives when it had ended. */
  backup(): Promise<number>;
  /** Waits for the full backup that the control plane begins by itself, and gives its id and when it had ended. */
  automaticBackup(): Promise<{ readonly id: string; readonly timeUs: number }>;
  /** Waits until everything up to now is archived and known to be; gives the moment and the position. */
  caughtUp(): Promise<{ readonly timeUs: number; readonly lsn: bigint }>;
  /** Restores to a target and gives what is wrong with it: also a refusal counts as wrong. */
  restoreWrong(target: LedgerTarget): Promise<string[]>;
  /** What `coppice restore plan` says of a target, or of the latest point. */
  plan(target?: LedgerTarget): Promise<{ readonly code: number | null; readonly said: string }>;
  /** The last lines of every log, for whoever looks for a reason. */
  evidence(): Promise<string>;
}

const cluster = "shop";
/** A store whose requests hang is waited for, once or twice. */
const patienceMs = { folder: 90_000, s3: 240_000 };
/** In which what is not a whole segment is stored; pushed, each is a segment. */
const maxAge = { stream: "2s", push: "5s" };

/** Opens one; its clients are at work and its WAL is received. Disposing of it ends and removes everything. */
export async function openLedgerLab({
  major,
  clients: count,
  random,
  mode = "stream",
  on = "folder",
}: {
  readonly major: number;
  readonly clients: number;
  readonly random: Random;
  readonly mode?: LedgerMode;
  readonly on?: LedgerStore["kind"];
}): Promise<LedgerLab> {
  await using opening = new AsyncDisposableStack();
  const truth = opening.use(await openArchiveTruth(mode));
  const [installation, server] = await Promise.all([
    // A gap is believed after thirty heartbeats.
    openInstallation({ heartbeat: "1s" }).then((opened) => opening.use(opened)),
    openPostgresServer({ major, settings: truth.settings }).then((opened) => opening.use(opened)),
  ]);
  await installation.addAgent("db7");
  const store = opening.use(await (on === "s3" ? openS3Store() : openFolderStore(installation.folder)));
  const { args, input } = store.add;
  await installation.must(["repo", "add", "main", ...args, "--check"], input === undefined ? {} : { input });
  const endpoint = `127.0.0.1:${server.port}`;
  await installation.must(["cluster", "add", cluster, "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
    input: server.password,
  });
  await installation.must(["cluster", "check", cluster]);
  await installation.must(["wal", "setup", cluster, "--to", "main", "--mode", mode, "--max-age", maxAge[mode]]);
  const file = join(installation.folder, "ledger.txt");
  const clients = opening.use(await openLedgerClients(server, { count, file, random }));
  const restored = join(installation.folder, "restored");
  await mkdir(restored);
  if (process.getuid?.() === 0) await chown(restored, server.owner.uid, server.owner.gid);
  const lost: LostTimes[] = [];
  let restores = 0;

  const status = () => installation.call<ArchiveStatus>("ClusterService/GetWalArchive", { cluster });
  const targetFlags = (target: LedgerTarget) =>
    "timeUs" in target ? ["--at", formatTime(target.timeUs)] : ["--lsn", describe(target).slice("LSN ".length)];

  async function ended<Value>(what: string, condition: () => Promise<Value | undefined | false>): Promise<Value> {
    return await waitFor(what, condition, patienceMs[on]);
  }

  async function examine(directory: string, port: number, target: LedgerTarget): Promise<string[]> {
    const settings = "select pg_is_in_recovery(), current_setting('archive_mode')";
    const state = await ask(server, port, ledgerDatabase, settings);
    const torn = await ask(server, port, ledgerDatabase, tornClients);
    const ids = (await ask(server, port, ledgerDatabase, restoredIds)).split("\n").filter(Boolean).map(Number);
    return [
      ...(state === "f|off" ? [] : [`the server in ${directory} says ${state}`]),
      ...(torn === "" ? [] : [`transactions are there in part: ${torn}`]),
      ...judge(clients.entries, new Set(ids), target),
    ];
  }

  if (mode === "push")
    await ended("archive_command hands WAL over alone", async () => {
      const { archiver } = await status();
      return archiver?.isCommandSet === true && archiver.isHandingOver !== true;
    });
  const { cluster: clusterId } = await status();
  const resources = opening.move();
  return {
    installation,
    server,
    clients,
    truth,
    clusterId,
    store,
    mode,
    lost,
    status,
    async window() {
      const request = { cluster };
      const told = await installation.call<{ windows?: ToldWindow[] }>("ClusterService/GetRecoveryWindow", request);
      const newest = told.windows?.at(-1);
      if (newest === undefined) throw new Error("no window is told");
      return newest;
    },
    async backup() {
      await installation.must(["backup", "create", cluster, "--kind", "full", "--wal", "embedded"]);
      return Date.now() * 1000;
    },
    async automaticBackup() {
      const id = await ended("a full backup is begun by itself, and has ended", async () => {
        const request = { cluster };
        const { operations = [] } = await installation.call<Operations>("OperationService/ListOperations", request);
        const own = operations.find(({ principal }) => principal === "system");
        if (own?.state === "OPERATION_STATE_FAILED") throw new Error(`it failed: ${own.failure?.message}`);
        return own?.state === "OPERATION_STATE_SUCCEEDED" && own.createdPhysicalBackup?.backup;
      });
      return { id, timeUs: Date.now() * 1000 };
    },
    async caughtUp() {
      const lsn = parseLsn(await server.sql("postgres", "select pg_current_wal_insert_lsn()"));
      const timeUs = Date.now() * 1000;
      await ended("everything up to now is archived", async () => {
        const { storedLsn = "" } = await status();
        return storedLsn !== "" && parseLsn(storedLsn) >= lsn;
      });
      await waitUntilKnown(installation, cluster, new Date(timeUs / 1000).toISOString(), patienceMs[on]);
      return { timeUs, lsn };
    },
    async restoreWrong(target) {
      restores += 1;
      const directory = join(restored, `data-${restores}`);
      const port = await freePort();
      const place = ["--to", `db7:${directory}`, "--start", "--port", String(port)];
      const said = await installation.coppice(["restore", "create", cluster, ...targetFlags(target), ...place]);
      try {
        if (said.code !== 0) return [`${describe(target)} is not restored: ${said.stdout}${said.stderr}`];
        return await examine(directory, port, target);
      } finally {
        await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
        await rm(directory, { recursive: true, force: true });
      }
    },
    async plan(target) {
      const place = ["--to", `db7:${join(restored, "planned")}`, "--start"];
      const { code, stdout, stderr } = await installation.coppice([
        "restore",
        "plan",
        cluster,
        ...(target ? targetFlags(target) : []),
        ...place,
      ]);
      return { code, said: stdout + stderr };
    },
    async evidence() {
      const files = [...installation.logFiles(), server.logFile];
      const logs = await Promise.all(files.map(async (log) => `--- ${log}\n${await lastLines(log, 40)}`));
      return logs.join("\n");
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** As `--at` takes it: 2026-11-21T13:03:07.250000Z. */
function formatTime(timeUs: number): string {
  const whole = new Date(Math.floor(timeUs / 1000)).toISOString();
  return whole.replace("Z", `${String(timeUs % 1000).padStart(3, "0")}Z`);
}
