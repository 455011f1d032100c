import { waitFor } from "../../support/installation.ts";
import { type Lab, subject } from "../lab.ts";

const deadlineMs = 600_000;

/** Has the agent archive the WAL of the lab's server, and waits until it does. */
export async function startReceiving(lab: Lab): Promise<void> {
  await lab.cop.must(["wal", "setup", subject, "--to", "main", "--max-age", "5s"]);
  await waitStored(lab, { lsn: await lab.server.sql("postgres", "select pg_switch_wal()") });
}

/** Waits until all WAL before a position is stored and, where it is given, the archive knows of a time past that. */
export async function waitStored(
  { cop, server }: Lab,
  { lsn, time }: { readonly lsn: string; readonly time?: string },
): Promise<void> {
  const isTrue = async (sql: string) => (await server.sql("postgres", `select ${sql}`)) === "t";
  await waitFor(
    `WAL is stored up to ${lsn}`,
    async () => {
      const { storedLsn, storedTime } = await cop.json<{ storedLsn: string; storedTime?: string }>([
        "wal",
        "status",
        subject,
      ]);
      if (storedLsn === "" || !(await isTrue(`'${storedLsn}'::pg_lsn >= '${lsn}'`))) return false;
      if (time === undefined) return true;
      return storedTime !== undefined && (await isTrue(`'${storedTime}'::timestamptz > '${time}'`));
    },
    deadlineMs,
  );
}
