import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { portrayDatabase } from "../dumps/database-portrait.ts";
import { type Installation, openInstallation } from "../installation.ts";
import { openPostgresServer, type PostgresServer } from "../postgres-servers.ts";
import { listFiles } from "./files.ts";
import { type Gate, putGate } from "./gate.ts";
import { listProcesses, stillRunning } from "./processes.ts";
import { addCluster, addRepository } from "./protect.ts";

/** A protected cluster with one database, `shop`, that holds a gate and a table `sold` of 5000 rows. */
export interface Protected {
  readonly cluster: string;
  readonly server: PostgresServer;
  readonly gate: Gate;
  /** Of `shop`, as it was made. */
  readonly portrait: string;
}

/** What a test asks of an operation. */
export interface Operation {
  readonly id: string;
  readonly state: string;
  readonly cursor: string;
  readonly failure?: { readonly reason: string; readonly message?: string };
  readonly attempts: readonly { readonly settling?: boolean; readonly failure?: { readonly reason: string } }[];
  readonly leavings?: readonly string[];
  readonly createRestore?: { readonly keptDatabase?: string };
  readonly createBackup?: { readonly backup?: string };
}

/** An installation with one agent, db7, two protected clusters and a repository, where processes are killed. */
export interface KillLab extends AsyncDisposable {
  readonly installation: Installation;
  /** Folder of the repository. */
  readonly repository: string;
  /** A cluster of each major. */
  readonly clusters: readonly [Protected, Protected];
  get(id: string): Promise<Operation>;
  /** The operation once it has ended; fails when it has not within the deadline. */
  ended(id: string, deadlineMs?: number): Promise<Operation>;
  /** Ids of the listed backups, newest first. */
  backupIds(): Promise<string[]>;
  /** Kills the control plane; its embedded PostgreSQL is there still, as after a real crash. */
  killControlPlane(): Promise<void>;
  /** Nothing is half-made: no staged database, no work file, no object without a manifest, no tool that still runs. */
  expectTidy(): Promise<void>;
}

/** Opens one; disposing of it ends and removes everything. */
export async function openKillLab(): Promise<KillLab> {
  await using opening = new AsyncDisposableStack();
  const openServer = async (major: number): Promise<Protected> => {
    const server = opening.use(await openPostgresServer({ major }));
    await server.sql("postgres", "create database shop");
    await server.sql("shop", "create table sold as select i, md5(i::text) from generate_series(1, 5000) i");
    const gate = await putGate(server, "shop");
    return { cluster: `c${major}`, server, gate, portrait: await portrayDatabase(server, "shop") };
  };
  const openAll = openInstallation().then((opened) => opening.use(opened));
  const [installation, ...clusters] = await Promise.all([openAll, openServer(15), openServer(18)]);
  await installation.addAgent("db7");
  const repository = await addRepository(installation, "main", "db7");
  for (const { cluster, server } of clusters) await addCluster(installation, cluster, { host: "db7", server });
  const { call } = installation;
  const resources = opening.move();
  return {
    installation,
    repository,
    clusters,
    get: (id) => call<Operation>("OperationService/GetOperation", { operation: id }),
    async ended(id, deadlineMs = 60_000) {
      const end = performance.now() + deadlineMs;
      for (let cursor = ""; ;) {
        const request = { operation: id, timeout: "10s", cursor };
        const operation = await call<Operation>("OperationService/WaitOperation", request);
        if (/_(SUCCEEDED|FAILED|CANCELLED)$/.test(operation.state)) return operation;
        if (performance.now() > end) throw new Error(`${id} is ${operation.state} after ${deadlineMs} ms`);
        cursor = operation.cursor;
      }
    },
    async backupIds() {
      const { backups = [] } = await call<{ backups?: { id: string }[] }>("BackupService/ListBackups", {});
      return backups.map(({ id }) => id);
    },
    async killControlPlane() {
      const { pid } = installation.controlPlane();
      const catalog = (await listProcesses()).filter(({ parent, name }) => parent === pid && name === "postgres");
      await installation.controlPlane().end("SIGKILL");
      expect(await stillRunning(catalog)).toHaveLength(1);
    },
    async expectTidy() {
      for (const { server } of clusters) {
        const databases = await server.sql("postgres", "select datname from pg_database where datname like 'coppice%'");
        expect(databases).toBe("");
      }
      expect(await readdir(join(installation.folder, "agent-db7/work"))).toEqual([]);
      const files = (await listFiles(repository)).filter((file) => file.includes("/backups/"));
      const folderOf = (file: string) => file.split("/").slice(0, 3).join("/");
      const committed = files.filter((file) => file.endsWith("/manifest.json")).map(folderOf);
      expect(files.filter((file) => file.includes("unfinished") || !committed.includes(folderOf(file)))).toEqual([]);
      const ports = clusters.map(({ server }) => `port='${server.port}'`);
      const tools = (await listProcesses()).filter(({ argv }) => ports.some((port) => argv.join(" ").includes(port)));
      expect(tools).toEqual([]);
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
