import { chown, mkdir } from "node:fs/promises";
import { openPostgresServer, type PostgresServer } from "../postgres-servers.ts";
import { runProgram } from "../run-program.ts";

/**
 * Makes a standby of a running server by pg_basebackup, and starts it: it streams from there, and answers when this
 * returns. Disposing of it leaves the primary alone.
 */
export async function openStandby(
  primary: PostgresServer,
  settings: Readonly<Record<string, string>> = {},
): Promise<PostgresServer> {
  const { major, port, superuser, password, binDir, owner } = primary;
  const asOwner = process.getuid?.() === 0 ? [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--init-groups"] : [];
  const source = `host=127.0.0.1 port=${port} user=${superuser} password=${password}`;
  const flags = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"];
  return await openPostgresServer({
    major,
    settings,
    copy: {
      password,
      async fill(dataDir) {
        await mkdir(dataDir, { mode: 0o700 });
        await chown(dataDir, owner.uid, owner.gid);
        const line = [...asOwner, `${binDir}/pg_basebackup`, `--pgdata=${dataDir}`, `--dbname=${source}`, ...flags];
        const ended = await runProgram("setpriv", line, { env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8" } });
        if (ended.code !== 0) throw new Error(`no standby of ${primary.dataDir} was made: ${ended.stderr}`);
      },
    },
  });
}
