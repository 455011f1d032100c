import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ConnectionSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { Failure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { staysQuiet } from "../../agent/src/physical/restore/settings/recovery-settings.ts";
import { requireStandby } from "../../agent/src/physical/backup/require-standby.ts";
import { openReplication } from "../../agent/src/postgres/replication/open-replication.ts";
import { replicationEndpoint } from "../support/replication/replication-endpoint.ts";
import { checkCluster } from "../../agent/src/postgres/check/check.ts";
import { openPhysicalLab, physicalContent, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab } from "../support/physical/restore-lab.ts";
import { startRecovered } from "../support/physical/recovered-server.ts";
import { runProgram } from "../support/run-program.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { openStandby } from "../support/physical/standby.ts";

describe.each([15, 18])("PostgreSQL %i", (major) => {
  let primary: PostgresServer;
  let standby: PostgresServer;
  let lab: PhysicalLab;
  const digest = "select md5(string_agg(t::text, ',' order by id)) from t";

  /** What the primary has said is there is on the standby. */
  const catchUp = async () => {
    const end = await primary.sql("postgres", "select pg_current_wal_lsn()");
    await expect
      .poll(() => standby.sql("postgres", `select pg_last_wal_replay_lsn() >= '${end}'`), { timeout: 60_000 })
      .toBe("t");
  };
  /** Takes a slow backup, and does something once its first bytes are stored; gives what it failed with. */
  const disturb = async (disturbance: () => Promise<unknown>) => {
    const command = lab.command({ maxRateBytes: 2n << 20n });
    const taking = lab.take(command).catch((error: unknown) => error);
    await expect.poll(() => readdir(lab.folderOf(command.backup)).catch(() => []), { timeout: 60_000 }).not.toEqual([]);
    await disturbance();
    const failure = await taking;
    expect(await readdir(lab.folderOf(command.backup)).catch(() => [])).toEqual([]);
    expect(lab.leavings).toEqual([]);
    return failure;
  };

  beforeAll(async () => {
    primary = await openPostgresServer({ major });
    await primary.sql(
      "postgres",
      "create table t as select id, md5(id::text) as text from generate_series(1, 20000) id",
    );
    standby = await openStandby(primary);
    lab = await openPhysicalLab(standby);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
  });

  test("a full backup is taken of a standby while the primary writes, says so, and is restored with its WAL alone", async () => {
    await catchUp();
    const isOver = { value: false };
    // Bounded, for a starved machine must not be given ever more to replay.
    const load = (async () => {
      for (let round = 1; round <= 6 && !isOver.value; round += 1)
        await primary.sql(
          "postgres",
          `create table if not exists busy (a text);
           insert into busy select md5(g::text) from generate_series(1, 5000) g; checkpoint; select pg_sleep(0.2)`,
        );
    })();
    const command = lab.command();
    const { manifest } = await lab.take(command).finally(() => (isOver.value = true));
    await load;
    const content = physicalContent(manifest);
    expect(content).toMatchObject({ fromStandby: true, timeline: 1, walEmbedded: true });
    expect(parseLsn(content.stopLsn)).toBeGreaterThanOrEqual(parseLsn(content.startLsn));
    expect(lab.log.join("\n")).toContain("a standby");
    expect((await lab.verify(command.backup)).failure).toBeUndefined();
    await using restores = await openRestoreLab(standby, lab.repository);
    const restore = await restores.command("copy", [command.backup]);
    expect(await restores.restore(restore)).toMatchObject({ started: true, timeline: 2, warnings: [staysQuiet] });
    expect(await restores.sql(restore, digest)).toBe(await primary.sql("postgres", digest));
    expect(await restores.sql(restore, "select pg_is_in_recovery(), current_setting('primary_conninfo') = ''")).toBe(
      "f|t",
    );
    await restores.stop(restore);
    // The same by hand.
    const data = join(restores.folder, "by-hand");
    const script = `cd '${lab.folderOf(command.backup)}' && PGDATA='${data}' bash RECOVER.txt && chown -R ${primary.owner.uid}:${primary.owner.gid} '${data}'`;
    const env = { PATH: `${primary.binDir}:/usr/bin:/bin`, LANG: "C.UTF-8" };
    expect(await runProgram("sh", ["-c", script], { env })).toMatchObject({ code: 0, stderr: "" });
    await using recovered = await startRecovered(standby, data);
    expect(await recovered.sql("postgres", digest)).toBe(await primary.sql("postgres", digest));
    // The copy follows nobody, and the standby goes on with its own primary.
    expect(await primary.sql("postgres", "select count(*) from pg_stat_replication where state = 'streaming'")).toBe(
      "1",
    );
  });

  test("a check of a standby says what has to be run on the primary, and runs none of it itself", async () => {
    const name = "watcher";
    await primary.sql("postgres", `create role ${name} login password '${name}'`);
    await catchUp();
    const endpoint = { address: { case: "host", value: "127.0.0.1" }, port: standby.port, user: name } as const;
    const signal = AbortSignal.timeout(60_000);
    const asked = {
      connection: create(ConnectionSchema, { endpoint }),
      password: name,
      files: { home: lab.repository },
    };
    const { facts, items } = await checkCluster({ ...asked, signal });
    expect(facts?.inRecovery).toBe(true);
    const role = items.find((item) => item.name === "replication-role");
    const statement = `ALTER ROLE "${name}" REPLICATION;`;
    expect(role).toMatchObject({ fix: `on the primary: ${statement}`, statements: [] });
    expect((await checkCluster({ ...asked, fixStatements: [statement], signal })).applied).toEqual([]);
    await primary.sql("postgres", statement);
    await catchUp();
    const mended = (await checkCluster({ ...asked, signal })).items.map((item) => item.name);
    expect(mended).toContain("replication");
    expect(mended).not.toContain("replication-role");
  });

  test("a standby that is lost during a backup ends it, and nothing stays", async () => {
    expect(await disturb(() => standby.stop("immediate"))).toMatchObject({ reason: "CLUSTER_UNREACHABLE" });
    await standby.start();
  });

  test("a standby that is promoted during a backup ends it with that reason, and nothing stays, on the server neither", async () => {
    const signal = AbortSignal.timeout(120_000);
    const endpoint = replicationEndpoint(standby);
    const failure = await disturb(async () => {
      // A backup beside it whose WAL nobody follows: the server alone ends that one.
      await using replication = await openReplication(endpoint, { signal });
      const drain = async (content: AsyncIterable<unknown>) => {
        for await (const _ of content);
      };
      const refused = await replication
        .baseBackup(
          { label: "beside", checkpoint: "fast", incremental: false },
          {
            async onStart() {
              await requireStandby(endpoint, new Failure("POSTGRES_REFUSED", "something else"), signal);
              await standby.sql("postgres", "select pg_promote(true, 60)");
            },
            onArchive: ({ content }) => drain(content),
            onManifest: drain,
          },
        )
        .catch((error: unknown) => error);
      expect(refused).toMatchObject({ reason: "POSTGRES_REFUSED" });
      await expect(requireStandby(endpoint, refused, signal)).rejects.toMatchObject({ reason: "TIMELINE_CHANGED" });
    });
    expect(failure).toMatchObject({ reason: "TIMELINE_CHANGED" });
    const left =
      "select (select count(*) from pg_replication_slots) + (select count(*) from pg_stat_activity where backend_type = 'walsender')";
    await expect.poll(() => standby.sql("postgres", left), { timeout: 60_000 }).toBe("0");
    // It is a primary now, and can be backed up as one.
    const { manifest } = await lab.take(lab.command());
    expect(physicalContent(manifest)).toMatchObject({ fromStandby: false, timeline: 2 });
  });
});
