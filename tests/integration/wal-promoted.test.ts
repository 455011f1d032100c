// One thing: a standby that was promoted where the archive had more of the old timeline than it had: that is a loss of the
// primary, and no other history.
import { chmod, cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { expect, test } from "vitest";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveOf } from "../support/wal/copied-server.ts";
import { archiveBy, patient, whenStored, writeSegments } from "../support/wal/push-lab.ts";
import { receives } from "../support/wal/running-archive.ts";

const settings = { autovacuum: "off", wal_keep_size: "1GB" };

/** A standby of what the server has now, that never gets more of it. */
async function openLaggard({ major, password, dataDir: source, owner }: PostgresServer): Promise<PostgresServer> {
  const fill = async (dataDir: string) => {
    await cp(source, dataDir, { recursive: true });
    await writeFile(join(dataDir, "standby.signal"), "");
    await rm(join(dataDir, "pg_replslot", "archive"), { recursive: true, force: true });
    await runProgram("chown", ["-R", `${owner.uid}:${owner.gid}`, dataDir], { env: { PATH: "/usr/bin:/bin" } });
  };
  return await openPostgresServer({ major, settings, copy: { password, fill } });
}

test.each([
  ["a part more, clear", [], 0, "."],
  ["a part more", ["encrypted"], 0, "."],
  ["a part more, by another agent", ["encrypted"], 0, "other"],
  ["whole segments more", ["encrypted"], 2, "."],
  ["whole segments more, by another agent", ["encrypted"], 2, "other"],
] as const)("a promoted standby is archived where the archive had %s", async (_, crypt, segments, folder) => {
  await using server = await openPostgresServer({ major: 18, settings });
  const recipients = await Promise.all(crypt.map(async () => (await makeAgeKey()).recipient));
  await using lab = await openArchiveLab(server, { recipients, maxAgeSeconds: 1 });
  {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    await receives(server);
    await whenStored(archiving, await writeSegments(server, 1));
    await server.sql("postgres", "insert into load values (1, 'of both')");
    await server.stop("immediate");
  }
  await using standby = await openLaggard(server);
  await server.start();
  {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    await receives(server);
    await server.sql("postgres", "insert into load values (1, 'lost with the primary')");
    if (segments > 0) await writeSegments(server, segments);
    await whenStored(archiving, parseLsn(await server.sql("postgres", "select pg_current_wal_flush_lsn()")));
    await server.stop("immediate");
  }
  await standby.sql("postgres", "select pg_promote(true, 60)");
  const state = join(lab.folder, folder);
  await mkdir(state, { recursive: true });
  await chmod(lab.folder, 0o711);
  await using archiving = await archiveBy(archiveOf(lab, standby, "archive"), WalMode.STREAM, state);
  await receives(standby);
  const end = await writeSegments(standby, 2);
  await expect
    .poll(() => {
      const { timeline, storedLsn = "", trouble } = archiving.telling() ?? {};
      return trouble?.message ?? (timeline === 2 && storedLsn !== "" && parseLsn(storedLsn) >= end);
    }, patient)
    .toBe(true);
  await rm(join(lab.folder, "other"), { recursive: true, force: true });
});
