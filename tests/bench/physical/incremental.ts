import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Bench, BenchRequest } from "../bench.ts";
import { digestData } from "../data.ts";
import { type Lab, openLab, subject } from "../lab.ts";
import { median } from "../measure.ts";
import { makeRow } from "../row.ts";
import { deleteBackups, listBackups, takeArguments } from "./backups.ts";
import { memoryRow, openGround } from "./ground.ts";

const name = "incremental";
const runs = 3;
/** Of the pages of the whole database. */
const changedShare = 0.01;
const tables = ["pgbench_accounts", "event", "wide"];
const goals = { bytes: 0.05, time: 0.4 };

interface Stored {
  readonly objects?: readonly { readonly sizeBytes: string }[];
}

/** Stored bytes of the newest backup, without the WAL that it carries. Fails when it is of another kind. */
async function bytesApart(lab: Lab, kind: "FULL" | "INCREMENTAL"): Promise<number> {
  const [newest] = await listBackups(lab);
  const folder = newest?.copies[0]?.folder;
  if (!newest || folder === undefined || newest.kind !== `BACKUP_KIND_${kind}`)
    throw new Error(`the newest backup is ${newest?.kind}: ${newest?.physical.fullReason}`);
  const cluster = await lab.cop.json<{ id: string }>(["cluster", "get", subject]);
  const path = join(lab.cop.folder, "repository", cluster.id, "backups", folder, "manifest.json");
  const { physical } = JSON.parse(await readFile(path, "utf8")) as {
    physical: { base: Stored; backupManifest: Stored; tablespaces?: readonly { stream: Stored }[] };
  };
  const streams = [physical.base, physical.backupManifest, ...(physical.tablespaces ?? []).map(({ stream }) => stream)];
  return streams.flatMap(({ objects = [] }) => objects).reduce((sum, { sizeBytes }) => sum + Number(sizeBytes), 0);
}

/** Deletes one row on every so-manyth page of the large tables, another page with each round. */
async function changePages(lab: Lab, round: number): Promise<{ changed: number; total: number }> {
  const pages = async (bytes: string) => Number(await lab.server.sql(subject, `select (${bytes}) / 8192`));
  const total = await pages(`pg_database_size('${subject}')`);
  const heaps = await pages(tables.map((table) => `pg_relation_size('${table}')`).join(" + "));
  const step = Math.max(1, Math.floor(heaps / (total * changedShare)));
  let changed = 0;
  for (const table of tables) {
    const ids = `select format('(%s,1)', page)::tid
      from generate_series(${round % step}, pg_relation_size('${table}') / 8192 - 1, ${step}) page`;
    const removal = `delete from ${table} where ctid = any (array(${ids})) returning 1`;
    changed += Number(await lab.server.sql(subject, `with gone as (${removal}) select count(*) from gone`));
  }
  return { changed, total };
}

async function* run(request: BenchRequest) {
  const { say, signal } = request;
  await using lab = await openLab(request, "folder", { summarize_wal: "on", wal_log_hints: "on" });
  const ground = await openGround(lab);
  await lab.server.sql(subject, "vacuum freeze");
  const taken = { full: [] as number[], incremental: [] as number[], fullBytes: [] as number[], bytes: [] as number[] };
  for (let number = 0; number <= runs; number += 1) {
    signal.throwIfAborted();
    await lab.settle();
    const full = await lab.time(takeArguments("full"));
    const fullBytes = await bytesApart(lab, "FULL");
    const { changed, total } = await changePages(lab, number);
    if (changed < 0.9 * changedShare * total) throw new Error(`only ${changed} of ${total} pages were changed`);
    await lab.settle();
    const incremental = await lab.time(takeArguments("incremental"));
    const bytes = await bytesApart(lab, "INCREMENTAL");
    say(
      `${name}: ${number || "warm-up"}: full ${(full / 1000).toFixed(2)} s, incremental ${(incremental / 1000).toFixed(2)} s, ` +
        `${changed} of ${total} pages, ${(bytes / 1e6).toFixed(1)} of ${(fullBytes / 1e6).toFixed(1)} MB`,
    );
    const directory = ground.newDirectory();
    await lab.cop.must(["restore", "create", subject, "--to", `db7:${directory}`]);
    await ground.check(directory, await digestData(lab.server, subject));
    await deleteBackups(lab);
    if (number === 0) continue;
    taken.full.push(full / 1000);
    taken.incremental.push(incremental / 1000);
    taken.fullBytes.push(fullBytes);
    taken.bytes.push(bytes);
  }
  const goal = { peerName: "goal", runs };
  const [ours, most] = [median(taken.incremental), goals.time * median(taken.full)];
  yield makeRow({ name, ours, peer: most, unit: "s", ...goal });
  const [bytes, mostBytes] = [median(taken.bytes), goals.bytes * median(taken.fullBytes)];
  yield makeRow({ name: `${name}-bytes`, ours: bytes, peer: mostBytes, unit: "bytes", ...goal });
  yield await memoryRow(lab, name, runs);
}

/** How long an incremental backup takes and how large it is when one page in a hundred has changed. */
export const incremental: Bench = {
  summary:
    "coppice backup create --kind incremental after 1 % of the pages changed, against 40 % of the full's time and 5 % of its bytes; the agent's memory",
  run,
};
