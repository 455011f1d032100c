import type { BenchRequest } from "../bench.ts";
import { type Lab, subject } from "../lab.ts";

/** Segments of WAL for a bench of that size: 200 for 3 GB. */
export function segmentsFor({ sizeBytes }: BenchRequest): number {
  return Math.max(8, Math.round(sizeBytes / 15e6));
}

const slices = 5;

/**
 * Changes the benched data until about so many segments of WAL are written: many small transactions side by side, then
 * one that rewrites a fifth of a table, in turn. Gives where it is.
 */
export async function writeWal(lab: Lab, segments: number, { signal }: BenchRequest): Promise<string> {
  const { server } = lab;
  const start = await server.sql("postgres", "select pg_current_wal_lsn()");
  const isLess = `select pg_current_wal_lsn() < '${start}'::pg_lsn + ${segments} * setting::numeric
    from pg_settings where name = 'wal_segment_size'`;
  for (let slice = 0; (await server.sql("postgres", isLess)) === "t"; slice = (slice + 1) % slices) {
    signal.throwIfAborted();
    // What is in the WAL is the same when nobody waits for it.
    const options = "PGOPTIONS='-c synchronous_commit=off'";
    await lab.timeScript(`${options} pgbench --no-vacuum --client=4 --jobs=2 --transactions=1000 ${subject}`);
    const change = `update pgbench_accounts set abalance = abalance + 1 where aid % ${slices} = ${slice}`;
    await server.sql(subject, change);
  }
  return await server.sql("postgres", "select pg_switch_wal()");
}
