// A physical backup becomes a data directory again: what is in it, what is refused, and what is left when it fails.
import { chown, mkdir, readdir, readFile, readlink, realpath, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  type RestorePhysicalCommand,
  TablespacePlaceSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { RecoveryAction } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { Failure } from "@coppice/proto/kit/failure";
import { historyName } from "@coppice/proto/kit/wal/segment";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { staysQuiet } from "../../agent/src/physical/restore/settings/recovery-settings.ts";
import { restoreDirectory } from "../../agent/src/offline/data-directory/restore-directory.ts";
import { planPhysical } from "../../agent/src/physical/restore/plan.ts";
import { settlePhysical } from "../../agent/src/physical/restore/settle.ts";
import { walHistoryPrefix } from "../../agent/src/repository/layout.ts";
import { encodedAgain } from "../support/physical/encoded-again.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

describe.each([15, 17, 18])("PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let backups: PhysicalLab;
  let lab: RestoreLab;
  let full: BackupAddress;
  let archive: string;
  let again: RestorePhysicalCommand | undefined;
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
    return { tablespaces: [{ oid, location: join(lab.folder, name), named: true }] };
  };
  /** Everything of restores that lies in the lab's folder. */
  const traces = async (name: string) =>
    (await readdir(lab.folder)).filter((each) => each.startsWith(name) || each.startsWith(".coppice")).toSorted();

  test("with its own WAL it becomes a server that has everything, on a new timeline, and archives nowhere", async () => {
    const command = await lab.command("whole", [full], await placed("whole-space"));
    // It was promoted once, after the backup.
    const systemIdentifier = await server.sql("postgres", "select system_identifier from pg_control_system()");
    const histories = join(backups.repository, walHistoryPrefix({ clusterId: full.clusterId, systemIdentifier }));
    await mkdir(histories, { recursive: true });
    const promoted = zstdCompressSync("1\t0/9000000\tno recovery target specified\n");
    await writeFile(join(histories, historyName(2)), promoted);
    const plan = await lab.with(command, planPhysical);
    expect(plan.items.filter(({ status }) => status !== CheckStatus.OK)).toEqual([]);
    expect(await traces("whole")).toEqual([]);
    const result = await lab.restore(command);
    expect(result).toMatchObject({ started: true, timeline: 3, keptAs: "", warnings: [staysQuiet] });
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
    await rm(histories, { recursive: true });
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
      ["DIRECTORY_NOT_EMPTY", { ...command, dataDirectory: archive }],
      ["INVALID_FIELD", { ...command, dataDirectory: join(backups.repository, "new") }],
      ["INVALID_FIELD", { ...command, dataDirectory: join(server.dataDir, "base/new") }],
      ["FILE_NOT_WRITABLE", { ...command, dataDirectory: "/dev/null/new" }],
      ["INVALID_FIELD", { ...command, dataDirectory: join(lab.folder, 'a"b') }],
      ["INVALID_FIELD", { ...command, port: 80 }],
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

  // How an object is read is of no major.
  test.each(major === 18 ? [major] : [])(
    "an object of other bytes is refused, even where they unpack as well",
    async () => {
      const file = join(backups.repository, full.clusterId, "backups", full.folder, "base.tar.zst.0000");
      const stored = await readFile(file);
      await writeFile(file, encodedAgain(stored));
      const command = await lab.command("other", [full], await placed("other-space"));
      const failure = { reason: "DIGEST_MISMATCH", message: expect.stringContaining("base.tar.zst.0000") as unknown };
      await expect(lab.restore(command)).rejects.toMatchObject(failure);
      await writeFile(file, stored);
      expect(await traces("other")).toEqual([]);
    },
  );

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
    expect(await traces("late")).toEqual([]);
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

  test.each(major === 18 ? [major] : [])(
    "what was unpacked is kept when only the server fails, starts nowhere, and the same restore goes on with it",
    async () => {
      const segments: string[] = [];
      for (const rows of [1, 2]) {
        await server.sql("postgres", `insert into moved select generate_series(1, ${rows})`);
        segments.push(await server.sql("postgres", "select pg_walfile_name(pg_switch_wal())"));
      }
      await expect.poll(() => readdir(archive), { timeout: 20_000 }).toContain(segments[1]);
      const command = await lab.command("again", [full], { ...(await placed("again-space")), keepFailed: true });
      const fetch = `cp ${archive}/%f %p`;
      const attempt = (refused: string, operationId: string, keepFailed: boolean) =>
        lab.restore(
          { ...command, keepFailed },
          { operationId, restoreCommand: `case %f in ${refused}) exit 130;; esac; ${fetch}` },
        );
      lab.leavings.length = 0;
      // Neither before it has replayed anything, nor in the middle of it.
      for (const [index, refused] of ["0*", segments[1] ?? ""].entries()) {
        // What is kept stays so, also where a try that goes on with it does not ask for it.
        await expect(attempt(refused, `op_${index}`, index === 0)).rejects.toMatchObject({
          reason: "SERVER_NOT_STARTED",
        });
        const staging = `.coppice-restore-op_${index}-again`;
        expect(await traces("again")).toEqual([staging, "again-space"]);
        expect(lab.leavings.at(-1)).toContain(`rm -r '${join(lab.folder, staging)}'`);
        expect(await readdir(join(lab.folder, staging))).toEqual(["kept", "pg_control", "restore.json"]);
        const kept = join(lab.folder, staging, "kept");
        expect(await readdir(join(kept, "global"))).not.toContain("pg_control");
        expect(await readdir(kept)).not.toContain("postgresql.auto.conf.before-restore");
        const altered = await readFile(join(kept, "postgresql.auto.conf"), "utf8");
        expect(altered).not.toContain("restore_command");
        await writeFile(join(kept, "postgresql.auto.conf"), `${altered}work_mem = '432${index}kB'\n`);
        const { signal } = new AbortController();
        const settled = await settlePhysical({ command, operationId: `op_${index}`, noted: undefined, signal });
        expect(settled).toMatchObject({ outcome: undefined, removed: [], left: [lab.leavings.at(-1)] });
      }
      const other = { ...command, target: target({ case: "lsn", value: "0/FFFFFFF" }) };
      const planned = await lab.with(other, planPhysical, { operationId: "op_2", restoreCommand: fetch });
      expect(planned.items.find(({ name }) => name === "kept")?.message).toMatch(/of another restore .* is removed$/);
      const told = new Set<string>();
      const onProgress = ({ phase, item }: { phase: string; item: string }) => void told.add(`${phase} ${item}`);
      const restoreCommand = `sleep 0.3; ${fetch}`;
      const result = await lab.restore(command, { operationId: "op_2", restoreCommand, onProgress });
      expect(result).toMatchObject({ started: true, bytesRead: 0n, dataDirectory: command.dataDirectory });
      expect(result.files).toBeGreaterThan(100);
      // Before it lets anybody in it says which file it replays.
      const replaying = expect.stringMatching(/^recovering 0{7}[0-9A-F]{17}$/) as string;
      expect([...told].slice(2, 4)).toEqual(["recovering ", replaying]);
      const rows = await server.sql("postgres", "select count(*) from moved");
      expect(await lab.sql(command, "select count(*) from moved")).toBe(rows);
      expect(await lab.sql(command, "show work_mem")).toBe("4321kB");
      expect(await traces("again")).toEqual(["again", "again-space"]);
      await lab.stop(command);
      again = command;
    },
  );

  test.each(major === 18 ? [major] : [])(
    "into the places of the cluster that is replaced, its tablespaces go aside with it, stay its own, and come back",
    async () => {
      const command = again ?? (await lab.command("again", [full]));
      const space = join(lab.folder, "again-space");
      const linkOf = async (data: string) => {
        const [name = ""] = await readdir(join(data, "pg_tblspc"));
        return await readlink(join(data, "pg_tblspc", name));
      };
      await writeFile(join(command.dataDirectory, "precious"), "yes");
      // By a link to the place, beside which nothing is to be kept.
      await mkdir(join(lab.folder, "links"));
      const linked = join(lab.folder, "links", "space");
      await symlink(space, linked);
      const [place] = (await placed("links/space")).tablespaces.map((each) => create(TablespacePlaceSchema, each));
      if (!place) throw new Error("the cluster has no tablespace");
      const replacing = { ...command, replace: true, keepFailed: false, tablespaces: [place] };
      // Whose it is nobody can tell by the links of a copy.
      const unnamed = { ...replacing, tablespaces: [{ ...place, named: false }] };
      await expect(lab.restore(unnamed)).rejects.toMatchObject({ reason: "DIRECTORY_NOT_EMPTY" });
      const copy = { ...replacing, dataDirectory: join(lab.folder, "copy") };
      const live = join(lab.folder, "space");
      await mkdir(join(copy.dataDirectory, "pg_tblspc"), { recursive: true });
      await writeFile(join(copy.dataDirectory, "PG_VERSION"), "18\n");
      await symlink(live, join(copy.dataDirectory, "pg_tblspc", String(place.oid)));
      const taken = lab.restore({ ...copy, tablespaces: [{ ...place, location: live }] });
      await expect(taken).rejects.toMatchObject({ reason: "SERVER_RUNNING" });
      await rm(copy.dataDirectory, { recursive: true });
      const gone = new Failure("CANCELLED", "it was cancelled");
      const controller = new AbortController();
      const cancelled = lab.restore(replacing, {
        signal: controller.signal,
        onProgress: ({ phase }) => (phase === "recovering" ? controller.abort(gone) : undefined),
      });
      await expect(cancelled).rejects.toBe(gone);
      expect(await traces("again")).toEqual(["again", "again-space"]);
      expect(await realpath(await linkOf(command.dataDirectory))).toBe(space);
      expect(await readdir(space)).toEqual([expect.stringMatching(/^PG_18_/)]);
      const replaced = await lab.restore(replacing);
      expect(await lab.sql(replacing, "select count(*) from moved")).toBe("1000");
      await lab.stop(replacing);
      const keptSpace = await linkOf(replaced.keptAs);
      expect(keptSpace).toContain(`${space}.before-`);
      expect(replaced.warnings).toEqual([staysQuiet, expect.stringContaining(`is kept as ${keptSpace}`)]);
      expect(await readdir(keptSpace)).toEqual([expect.stringMatching(/^PG_18_/)]);
      expect(await readFile(join(replaced.keptAs, "precious"), "utf8")).toBe("yes");
      // The former one is whole, where it is kept.
      const former = { ...command, dataDirectory: replaced.keptAs };
      await lab.start(former);
      expect(Number(await lab.sql(former, "select count(*) from moved"))).toBeGreaterThan(1000);
      await lab.stop(former);
      lab.leavings.length = 0;
    },
  );

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
        expect(await traces("present")).toEqual(["present"]);
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

function placeOf({ tablespaces: [place] }: RestorePhysicalCommand) {
  if (!place) throw new Error("the command places no tablespace");
  return place;
}
