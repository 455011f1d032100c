import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import type { BenchRequest } from "./bench.ts";
import { digestData, loadData } from "./data.ts";
import { elapsedMs } from "./measure.ts";
import { runChecked } from "./run-checked.ts";

/** Name of the benched database, and of its cluster in the catalog. */
export const subject = "bench";

/** A server with data, protected by an installation of its own; ours and the peers reach it the same way. */
export interface Lab extends AsyncDisposable {
  readonly cop: Installation;
  readonly server: PostgresServer;
  /** Folder for what peers write, on the filesystem of the repository. */
  readonly peerFolder: string;
  /** What `digestData` gives for the benched database. */
  readonly digest: string;
  /** Milliseconds that a CLI command takes, from its start to its end, which must be success. */
  time(args: readonly string[]): Promise<number>;
  /** Milliseconds that a bash script takes; a program that fails anywhere in it fails it. Arguments are $1, $2 … */
  timeScript(script: string, ...args: readonly string[]): Promise<number>;
  /** Writes out what earlier work has left to be written, so that the next one does not pay for it. */
  settle(): Promise<void>;
}

const host = "db7";
const major = 18;

/** Opens a lab and loads the data; disposing of it removes everything. */
export async function openLab({ sizeBytes, signal, say }: BenchRequest): Promise<Lab> {
  const stack = new AsyncDisposableStack();
  try {
    const server = stack.use(
      await openPostgresServer({
        major,
        isDurable: true,
        // No checkpoint or vacuum of its own accord in the middle of one side's run.
        settings: {
          shared_buffers: "256MB",
          maintenance_work_mem: "128MB",
          max_wal_size: "16GB",
          checkpoint_timeout: "1h",
          autovacuum: "off",
        },
      }),
    );
    const size = await loadData(server, subject, sizeBytes);
    const digest = await digestData(server, subject);
    signal.throwIfAborted();
    say(`data: ${(size / 1e6).toFixed(0)} MB in PostgreSQL ${major}`);
    // Heartbeats as they are by default: they are part of what the agent does meanwhile.
    const cop = stack.use(await openInstallation({ heartbeat: "10s" }));
    await cop.addAgent(host);
    const [repository, peerFolder] = [join(cop.folder, "repository"), join(cop.folder, "peer")];
    for (const folder of [repository, peerFolder]) await mkdir(folder);
    await cop.must(["repository", "add", "main", `${host}:${repository}`, "--check"]);
    const endpoint = `127.0.0.1:${server.port}`;
    await cop.must(["cluster", "add", subject, "--host", host, "--endpoint", endpoint, "--password-stdin"], {
      input: server.password,
    });
    await cop.must(["cluster", "check", subject]);

    const env = {
      PATH: `${server.binDir}:/usr/bin:/bin`,
      HOME: cop.folder,
      LANG: "C.UTF-8",
      PGHOST: "127.0.0.1",
      PGPORT: String(server.port),
      PGUSER: server.superuser,
      PGPASSWORD: server.password,
    };
    const owned = stack.move();
    return {
      cop,
      server,
      peerFolder,
      digest,
      time: (args) =>
        elapsedMs(async () => {
          const { code, stdout, stderr } = await cop.coppice(args, { signal });
          if (code !== 0) throw new Error(`coppice ${args.join(" ")} ended with ${code}: ${stdout}${stderr}`);
        }),
      timeScript: (script, ...args) =>
        elapsedMs(() => runChecked("bash", ["-c", `set -euo pipefail; ${script}`, "bench", ...args], { env, signal })),
      async settle() {
        signal.throwIfAborted();
        await server.sql("postgres", "checkpoint");
        await runChecked("sync", ["-f", cop.folder], { env, signal });
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
