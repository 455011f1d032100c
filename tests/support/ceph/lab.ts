import { spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { processMark } from "../server-folders.ts";
import { addUser, ceph, type CephUser, radosgwAdmin } from "./cluster.ts";
import { type Gateway, startGateway } from "./gateway.ts";
import { missingCephPrograms } from "./programs.ts";

/** A real S3 server of this test run. Other files use it at the same time: take a bucket, and for faults a gateway, of your own. */
export interface CephLab {
  /** The shared gateway, by http and by https. */
  readonly endpoint: string;
  readonly tlsEndpoint: string;
  /** The authority of its certificate, PEM. */
  readonly caPem: string;
  readonly region: string;
  /** Makes buckets and owns them. */
  readonly owner: CephUser;
  /** Has no rights but those that a bucket's policy gives. */
  readonly writer: CephUser;
  /** Starts one more gateway of the same cluster, to be stopped and killed at will; takes about a second. */
  startGateway(options?: readonly string[]): Promise<Gateway>;
  addUser(name: string): Promise<CephUser>;
  ceph(args: readonly string[]): Promise<string>;
  radosgwAdmin(args: readonly string[]): Promise<string>;
}

/**
 * The lab of this test run, started by whoever comes first (about 7 s) and ended when the run does. Without an owner
 * it belongs to the parent of this process, which is vitest's main process.
 */
export async function openCephLab(ownerPid = process.ppid): Promise<CephLab> {
  const owner = await processMark(ownerPid);
  if (owner === undefined) throw new Error(`no process ${ownerPid} to keep the lab for`);
  const folder = join(tmpdir(), `coppice-ceph-${owner}`);
  if (await isFirst(folder)) {
    const program = join(import.meta.dirname, "serve.ts");
    spawn(process.execPath, [program, folder, owner], { detached: true, stdio: "ignore", cwd: "/" }).unref();
  }
  const state = await readState(folder);
  return {
    ...state,
    region: "default",
    caPem: await readFile(join(folder, "cert.pem"), "utf8"),
    // A cache has to be told of every change to a bucket: a stopped gateway with one would keep all others waiting.
    startGateway: (options = []) => startGateway(folder, ["--rgw_cache_enabled=false", ...options]),
    addUser: (name) => addUser(folder, name),
    ceph: (args) => ceph(folder, args),
    radosgwAdmin: (args) => radosgwAdmin(folder, args),
  };
}

async function isFirst(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, { mode: 0o700 });
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}

/** Why there can be no lab on this machine; undefined when there can. */
export function whyNoCephLab(): string | undefined {
  const missing = missingCephPrograms();
  return missing.length === 0 ? undefined : `not installed: ${missing.join(", ")}; run sh deploy/setup tests`;
}

type State = Pick<CephLab, "endpoint" | "tlsEndpoint" | "owner" | "writer">;

async function readState(folder: string): Promise<State> {
  for (const startedAt = Date.now(); Date.now() - startedAt < 90_000; await delay(50)) {
    const text = await readFile(join(folder, "lab.json"), "utf8").catch(() => "");
    if (text === "") continue;
    const state = JSON.parse(text) as State | { error: string };
    if ("error" in state) throw new Error(`the S3 server did not start: ${state.error}`);
    return state;
  }
  throw new Error(`the S3 server in ${folder} did not start in time`);
}
