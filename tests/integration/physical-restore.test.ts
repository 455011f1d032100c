// A physical backup becomes a data directory again: what is in it, what is refused, and what is left when it fails.
import { chown, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { RecoveryAction } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { restoreDirectory } from "../../agent/src/offline/data-directory/restore-directory.ts";
import { planPhysical } from "../../agent/src/physical/restore/plan.ts";
import { settlePhysical } from "../../agent/src/physical/restore/settle.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

describe.each([15, 17, 18])("PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let backups: PhysicalLab;
  let lab: RestoreLab;
  let full: BackupAddress;
  let archive: string;
  const count = "select count(*) from t";

  beforeAll(async () => {
    server = await openPostgresServer({
      major,
      settings: { archive_mode: "on", ...(major > 15 ? { summarize_wal: "on", wal_log_hints: "on" } : {}) },
    });
    backups = await openPhysicalLab(server);
    lab = await openRestoreLab(server, backups.repository);
    archive = join(lab.folder, "archive");
    const space = join(lab.folder, "space");
    for (const made of [archive, space]) {
      await mkdir(made);
      await chown(made, server.owner.uid, server.owner.gid);
    }
    // What the source tells itself must not be what its copy does.
    await server.sql("postgres", `alter system set archive_command = 'cp %p ${archive}/%f'`);
    await server.sql("postgres", `create tablespace extra location '${space}'`);
    await server.sql(
      "postgres",
      "select pg_reload_conf(); create table t as select generate_series(1, 1000) as id; create table moved tablespace extra as select * from t",
    );
    const command = backups.command();
    await backups.take(command);
    full = command.backup;
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await backups?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const placed = async (name: string) => {
    const oid = Number(await server.sql("postgres", "select oid from pg_tablespace where spcname = 'extra'"));
    return { tablespaces: [{ oid, location: join(lab.folder, name) }] };
  };
  /** Everything of restores that lies in the lab's folder. */
  const traces = async (name: string) =>
    (await readdir(lab.folder)).filter((each) => each.startsWith(name) || each.startsWith(".coppice")).toSorted();

  test("with its own WAL it becomes a server that has everything, on a new timeline, and archives nowhere", async () => {
    const command = await lab.command("whole", [full], await placed("whole-space"));
    const plan = await lab.with(command, planPhysical);
    expect(plan.items.filter(({ status }) => status !== CheckStatus.OK)).toEqual([]);
    expect(await traces("whole")).toEqual([]);
    const result = await lab.restore(command);
    expect(result).toMatchObject({ started: true, timeline: 2, keptAs: "", warnings: [] });
    expect(result.endLsn).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
    expect(result.bytesRead).toBe(plan.storedBytes);
    expect(await lab.sql(command, `${count} union all select count(*) from moved`)).toBe("1000\n1000");
    const said =
      "select string_agg(current_setting(n), '|') from unnest(array['archive_mode', 'restore_command', 'recovery_target_timeline']) n";
    expect(await lab.sql(command, said)).toMatch(/^off\|/);
    expect(
      await lab.sql(command, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'extra'"),
    ).toBe(join(lab.folder, "whole-space"));
    const hba = await readFile(join(command.dataDirectory, "pg_hba.conf"), "utf8");
    expect(hba).toBe(await readFile(join(server.dataDir, "pg_hba.conf"), "utf8"));
    const auto = await readFile(join(command.dataDirectory, "postgresql.auto.conf"), "utf8");
    expect(auto).not.toMatch(/cp %p|recovery_target|restore_command/);
    expect((await stat(command.dataDirectory)).mode & 0o777).toBe(0o700);
    expect((await stat(command.dataDirectory)).uid).toBe(server.owner.uid);
    expect(await traces("whole")).toEqual(["whole", "whole-space"]);
    expect((await readdir(join(lab.folder, "whole-space"))).filter((name) => name.startsWith("."))).toEqual([]);
    await expect(lab.restore({ ...command, replace: true })).rejects.toMatchObject({ reason: "SERVER_RUNNING" });
    await lab.stop(command);
  });

  // The other majors are restored so from a repository with archived WAL, elsewhere.
  test.each(major === 17 ? [major] : [])("it is planned and restored with no control plane too", async () => {
    const command = await lab.command("offline", [full]);
    const [place] = (await placed("offline-space")).tablespaces;
    const options = {
      repo: backups.repository,
      cluster: "shop",
      into: command.dataDirectory,
      backup: full.backupId,
      port: command.port,
      start: true,
      tablespace: [`${place?.oid}=${place?.location}`],
    };
    const { signal } = new AbortController();
    expect(await restoreDirectory({ ...options, plan: true }, signal)).toBe(0);
    expect(await traces("offline")).toEqual([]);
    expect(await restoreDirectory(options, signal)).toBe(0);
    expect(await lab.sql(command, count)).toBe("1000");
    await lab.stop(command);
    expect(await restoreDirectory({ ...options, plan: true }, signal)).toBe(4);
  });

  test("what cannot be done is refused before anything is touched, by the plan in the same words", async () => {
    const command = await lab.command("refused", [full], await placed("refused-space"));
    const attempts: [string, typeof command, string?][] = [
      ["RECOVERY_TARGET_UNREACHABLE", { ...command, target: target({ case: "lsn", value: "F/0" }) }],
      ["SELECTION_REFUSED", { ...command, tablespaces: [{ ...placeOf(command), oid: 1 }] }],
      ["INVALID_FIELD", { ...command, target: { ...target({ case: undefined }), action: RecoveryAction.PAUSE } }],
      [
        "DIRECTORY_NOT_EMPTY",
        { ...command, tablespaces: [{ ...placeOf(command), location: join(lab.folder, "space") }] },
      ],
      ["DIRECTORY_NOT_EMPTY", { ...command, dataDirectory: backups.repository }],
      ["SERVER_RUNNING", { ...command, dataDirectory: server.dataDir, replace: true }],
    ];
    for (const [reason, attempt] of attempts) {
      await expect(lab.restore(attempt), reason).rejects.toMatchObject({ reason });
      const planned = lab
        .with(attempt, planPhysical)
        .then(({ items }) => items.some(({ status }) => status === CheckStatus.FAILED));
      expect(await planned.catch((error: unknown) => error instanceof Failure && error.reason === reason)).toBe(true);
    }
    expect(await traces("refused")).toEqual([]);
  });

  test("archived WAL is replayed to a second, and a point behind it is a failure that leaves nothing", async () => {
    const before = Date.now();
    await server.sql("postgres", "insert into t select generate_series(1, 10)");
    await expect.poll(() => Date.now() - before).toBeGreaterThan(20);
    const between = Date.now();
    await server.sql("postgres", "drop table t");
    const lost = await server.sql("postgres", "select pg_walfile_name(pg_switch_wal())");
    await expect.poll(() => readdir(archive), { timeout: 20_000 }).toContain(lost);
    const restoreCommand = `cp ${archive}/%f %p`;
    const point = target({ case: "time", value: timestampFromMs(between) });
    const command = await lab.command("second", [full], { ...(await placed("second-space")), target: point });
    const result = await lab.restore(command, { restoreCommand });
    expect(Number(result.lastCommitTime?.seconds ?? 0) * 1000).toBeLessThanOrEqual(between);
    expect(await lab.sql(command, count)).toBe("1010");
    await lab.stop(command);

    // What is done at the point does not depend on how it was reached.
    for (const name of major === 17 ? ["paused"] : []) {
      const paused = await lab.command(name, [full], {
        ...(await placed(`${name}-space`)),
        target: { ...point, action: RecoveryAction.PAUSE },
      });
      expect(await lab.restore(paused, { restoreCommand })).toMatchObject({ started: true, timeline: 1 });
      // The table itself is locked by what was not committed yet.
      expect(await lab.sql(paused, "select pg_is_in_recovery(), count(*) from moved")).toBe("t|1000");
      await lab.stop(paused);
    }

    const late = target({ case: "time", value: timestampFromMs(Date.now() + 3_600_000) });
    const unreachable = await lab.command("late", [full], { ...(await placed("late-space")), target: late });
    await expect(lab.restore(unreachable, { restoreCommand })).rejects.toMatchObject({
      reason: "RECOVERY_TARGET_UNREACHABLE",
    });
    expect(await traces("late")).toEqual(["late-space"]);
    expect(await readdir(join(lab.folder, "late-space"))).toEqual([]);
    await server.sql("postgres", "create table t as select generate_series(1, 1000) as id");
  });

  test.each(major >= 17 ? [major] : [])("a chain of incrementals is combined, tablespaces and all", async () => {
    const chain = [full];
    for (const rows of [7, 8]) {
      await server.sql("postgres", `insert into moved select generate_series(1, ${rows})`);
      const command = Object.assign(backups.command(), { incremental: true, parent: chain.at(-1) });
      await backups.take(command);
      chain.push(command.backup);
    }
    const command = await lab.command("chain", chain, await placed("chain-space"));
    await expect(lab.restore({ ...command, chain: chain.slice(1) })).rejects.toMatchObject({
      reason: "BACKUP_CHAIN_BROKEN",
    });
    expect(await lab.restore(command)).toMatchObject({ started: true, timeline: 2 });
    expect(await lab.sql(command, "select count(*) from moved")).toBe("1015");
    expect(
      await lab.sql(command, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'extra'"),
    ).toBe(join(lab.folder, "chain-space"));
    await lab.stop(command);
  });

  // What lies beside a server's files is of no major.
  test.each(major === 18 ? [major] : [])(
    "with replace the former content is kept, and comes back when the restore fails or is settled",
    async () => {
      const command = await lab.command("present", [full], {
        ...(await placed("present-space")),
        replace: true,
        start: false,
      });
      await mkdir(command.dataDirectory);
      await chown(command.dataDirectory, server.owner.uid, server.owner.gid);
      await writeFile(join(command.dataDirectory, "precious"), "yes");
      const gone = new Failure("CANCELLED", "it was cancelled");
      for (const phase of ["unpacking", "comparing", "syncing", "recovering"]) {
        const controller = new AbortController();
        const cancelled = lab.restore(
          { ...command, start: true },
          {
            signal: controller.signal,
            onProgress: (work) => (work.phase === phase ? controller.abort(gone) : undefined),
          },
        );
        await expect(cancelled, phase).rejects.toBe(gone);
        expect(await readdir(command.dataDirectory)).toEqual(["precious"]);
        expect(await traces("present")).toEqual(["present", "present-space"]);
        expect(await readdir(join(lab.folder, "present-space"))).toEqual([]);
      }
      const result = await lab.restore(command);
      expect(await readFile(join(result.keptAs, "precious"), "utf8")).toBe("yes");
      expect(await readdir(command.dataDirectory)).toContain("PG_VERSION");
      const { signal } = new AbortController();
      const lost = { command, operationId: "op_restore", signal };
      expect(await settlePhysical({ ...lost, noted: result })).toEqual({ outcome: result, removed: [], left: [] });
      expect(await readdir(command.dataDirectory)).toContain("PG_VERSION");
      expect(lab.leavings).toEqual([]);
    },
  );
});

function target(
  point:
    | { case: "lsn"; value: string }
    | { case: "time"; value: ReturnType<typeof timestampFromMs> }
    | { case: undefined },
) {
  return {
    $typeName: "coppice.common.v1.RecoveryTarget" as const,
    point,
    exclusive: false,
    timeline: 0,
    action: RecoveryAction.UNSPECIFIED,
  };
}

function placeOf({
  tablespaces,
}: {
  tablespaces: { $typeName: "coppice.agent.v1.TablespacePlace"; oid: number; location: string }[];
}) {
  const [place] = tablespaces;
  if (!place) throw new Error("the command places no tablespace");
  return place;
}
