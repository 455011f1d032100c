import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import type { BenchRequest } from "./bench.ts";
import { digestData, loadData } from "./data.ts";
import { elapsedMs } from "./measure.ts";
import { runChecked } from "./run-checked.ts";
import { type BenchBucket, openS3Place, type S3Place } from "./s3-place.ts";

/** Name of the benched database, and of its cluster in the catalog. */
export const subject = "bench";

/** Where backups go: a folder, or a bucket of a real S3 server. */
export type PlaceKind = "folder" | "s3";

/** A server with data, protected by an installation of its own; ours and the peers reach it the same way. */
export interface Lab extends AsyncDisposable {
  readonly cop: Installation;
  readonly server: PostgresServer;
  /** What `digestData` gives for the benched database. */
  readonly digest: string;
  /** Where the peers keep something of that name: a path on the repository's filesystem, or an S3 address. */
  peerTarget(name: string): string;
  /** The bucket that ours lies in, below `ours`; undefined where it is a folder. */
  readonly bucket: BenchBucket | undefined;
  /** Milliseconds that a CLI command takes, from its start to its end, which must be success. */
  time(args: readonly string[]): Promise<number>;
  /**
   * Milliseconds that a bash script takes; a program that fails anywhere in it fails it. Arguments are $1, $2 … In a
   * lab with S3, `$ENDPOINT` is the server's address. `$AS_OWNER` before a program runs it as the server's own user.
   */
  timeScript(script: string, ...args: readonly string[]): Promise<number>;
  /** Writes out what earlier work has left to be written, so that the next one does not pay for it. */
  settle(): Promise<void>;
  /** The most resident memory, in bytes, that the agent has had since it started; programs that it runs are not in it. */
  peakBytes(): Promise<number>;
}

const host = "db7";
const major = 18;

/** Registers the repository of ours and gives what the peers use of its place. */
async function openPlace(
  cop: Installation,
  kind: PlaceKind,
): Promise<Pick<Lab, "peerTarget" | "bucket"> & Pick<S3Place, "env">> {
  if (kind === "s3") {
    const { repository, bucket, env } = await openS3Place(cop.folder);
    await cop.call("RepositoryService/CreateRepository", { name: "main", ...repository });
    return { peerTarget: (name) => bucket.url(`peer/${name}`), bucket, env };
  }
  const [repository, peers] = [join(cop.folder, "repository"), join(cop.folder, "peer")];
  for (const folder of [repository, peers]) await mkdir(folder);
  await cop.must(["repository", "add", "main", `${host}:${repository}`, "--check"]);
  return { peerTarget: (name) => join(peers, name), bucket: undefined, env: {} };
}

/** Opens a lab and loads the data; disposing of it removes everything. Settings are added to those of its server. */
export async function openLab(
  { sizeBytes, signal, say }: BenchRequest,
  kind: PlaceKind,
  settings: Readonly<Record<string, string>> = {},
): Promise<Lab> {
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
          ...settings,
        },
      }),
    );
    const size = await loadData(server, subject, { sizeBytes, signal });
    const digest = await digestData(server, subject);
    signal.throwIfAborted();
    say(`data: ${(size / 1e6).toFixed(0)} MB in PostgreSQL ${major}`);
    // Heartbeats as they are by default: they are part of what the agent does meanwhile.
    const cop = stack.use(await openInstallation({ heartbeat: "10s" }));
    await cop.addAgent(host);
    const place = await openPlace(cop, kind);
    const endpoint = `127.0.0.1:${server.port}`;
    await cop.must(["cluster", "add", subject, "--host", host, "--endpoint", endpoint, "--password-stdin"], {
      input: server.password,
    });
    await cop.must(["cluster", "check", subject]);

    const { uid, gid } = server.owner;
    const env = {
      PATH: `${server.binDir}:/usr/bin:/bin`,
      HOME: cop.folder,
      LANG: "C.UTF-8",
      PGHOST: "127.0.0.1",
      PGPORT: String(server.port),
      PGUSER: server.superuser,
      PGPASSWORD: server.password,
      AS_OWNER: process.getuid?.() === 0 ? `setpriv --reuid=${uid} --regid=${gid} --init-groups` : "",
      ...place.env,
    };
    const owned = stack.move();
    return {
      cop,
      server,
      digest,
      peerTarget: place.peerTarget,
      bucket: place.bucket,
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
      async peakBytes() {
        const status = await readFile(`/proc/${cop.agent(host).pid}/status`, "utf8");
        const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
        if (kibibytes === undefined) throw new Error("the agent's status has no VmHWM");
        return Number(kibibytes) * 1024;
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
