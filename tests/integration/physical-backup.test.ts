// One thing: full physical backups of real servers, from the command to a server recovered by RECOVER.txt.
import { chmod, cp, mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BaseBackupCodec, CheckpointMode } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { Failure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { missingConfiguration } from "@coppice/proto/kit/repository/missing-configuration";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inspectRestore } from "../../agent/src/physical/restore/inspect.ts";
import { settleCommitted } from "../../agent/src/repository/leavings/settle-committed.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { openPhysicalLab, physicalContent, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab } from "../support/physical/restore-lab.ts";
import { runRecipe } from "../support/physical/run-recipe.ts";
import { startRecovered } from "../support/physical/recovered-server.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const path = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin" };
const { ZSTD, GZIP, NONE, UNSPECIFIED } = BaseBackupCodec;
const cases: Readonly<Record<number, readonly [BaseBackupCodec, boolean][]>> = {
  15: [
    [GZIP, true],
    [NONE, false],
  ],
  17: [
    [ZSTD, true],
    [GZIP, false],
  ],
  18: [
    [ZSTD, false],
    [NONE, true],
  ],
};
/** Threads that are asked for; 0 leaves it open. */
const workersOf: Readonly<Record<BaseBackupCodec, number>> = { [ZSTD]: 3, [GZIP]: 0, [NONE]: 0, [UNSPECIFIED]: 0 };
const facts = `select md5(string_agg(t::text, ',' order by id)) from big t
  union all select md5(string_agg(t::text, ',' order by id)) from moved t`;

let key: AgeKey;
beforeAll(async () => {
  key = await makeAgeKey();
});

async function giveTo(server: PostgresServer, folder: string): Promise<void> {
  const ended = await runProgram("chown", ["-R", `${server.owner.uid}:${server.owner.gid}`, folder], { env: path });
  expect(ended).toMatchObject({ code: 0 });
}

describe.each([15, 17, 18])("PostgreSQL %i", { timeout: 240_000 }, (major) => {
  let server: PostgresServer;
  let lab: PhysicalLab;
  let space: string;
  let oid: string;
  beforeAll(async () => {
    server = await openPostgresServer({
      major,
      settings: major > 15 ? { summarize_wal: "on", wal_log_hints: "on" } : {},
    });
    space = join(server.socketDir, "..", "a space & \\ place");
    await mkdir(space);
    await giveTo(server, space);
    await server.sql("postgres", `create tablespace extra location '${space}'`);
    await server.sql(
      "postgres",
      `create table big as select id, repeat(md5(id::text), 8) as text from generate_series(1, 40000) id;
       create table moved tablespace extra as select * from big limit 100;
       create database "two ""words"" $(a line)"`,
    );
    oid = await server.sql("postgres", "select oid from pg_tablespace where spcname = 'extra'");
    lab = await openPhysicalLab(server);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  test.each(cases[major] ?? [])(
    "a full backup as codec %i, encrypted %s, is taken under load, verified, and recovered by its own RECOVER.txt",
    async (codec, isEncrypted) => {
      const options = { codec, checkpoint: CheckpointMode.FAST, compressionWorkers: workersOf[codec] };
      const command = lab.command(options, isEncrypted ? [key.recipient] : []);
      const isOver = { value: false };
      // Bounded: each round is a whole segment, and a starved backup must not be given ever more to wait for.
      const load = (async () => {
        for (let round = 0; round < 3 && !isOver.value; round += 1)
          await server.sql(
            "postgres",
            "create table if not exists busy (a text); insert into busy select md5(g::text) from generate_series(1, 5000) g; select pg_switch_wal(); select pg_sleep(0.3)",
          );
      })();
      const before = await server.sql("postgres", facts);
      const result = await lab.take(command).finally(() => (isOver.value = true));
      await load;
      const content = physicalContent(result.manifest);
      expect(result.manifest).toMatchObject({ complete: true, recipients: command.backup.repository?.recipients });
      expect(content).toMatchObject({
        timeline: 1,
        walEmbedded: true,
        walSegmentBytes: 16n << 20n,
        fromStandby: false,
        options,
      });
      expect(content.tablespaces).toMatchObject([{ oid: Number(oid), location: space }]);
      expect(parseLsn(content.stopLsn)).toBeGreaterThan(parseLsn(content.startLsn));
      expect(content.base?.objects[0]?.key).toMatch(/^base\.tar/);

      const verified = await lab.verify(command.backup, key.identityFile);
      expect(verified.failure).toBeUndefined();
      expect(verified.result.bytes).toBe(result.storedBytes);

      await using recovered = await runRecipe(server, lab.folderOf(command.backup), { key, oid });
      await using restored = await startRecovered(server, recovered.data);
      expect(await restored.sql("postgres", facts)).toBe(before);
      expect(await restored.sql("postgres", "show archive_mode")).toBe("off");
      const names = await restored.sql("postgres", "select to_json(datname) from pg_database");
      expect(names.split("\n")).toContain(JSON.stringify('two "words" $(a line)'));
      expect(await restored.sql("postgres", `select pg_tablespace_location(${oid})`)).toBe(recovered.moved);
    },
  );

  // What is stored, and how it is looked after, does not depend on the server.
  const once = major === 18 ? [major] : [];
  test.each(once)("a damaged byte of any archive is found, by its digest and in what it holds", async () => {
    const command = lab.command({ codec: NONE });
    const { manifest } = await lab.take(command);
    const content = physicalContent(manifest);
    for (const stream of [content.base, content.wal, content.backupManifest, content.tablespaces[0]?.stream]) {
      const file = join(lab.folderOf(command.backup), stream?.objects[0]?.key ?? "");
      await chmod(file, 0o600);
      await using handle = await open(file, "r+");
      const at = 4000;
      const { buffer: kept } = await handle.read(Buffer.alloc(8), 0, 8, at);
      await handle.write(Buffer.from("damaged!"), 0, 8, at);
      const { failure } = await lab.verify(command.backup);
      expect(failure).toMatchObject({ reason: "DIGEST_MISMATCH" });
      await handle.write(kept, 0, 8, at);
    }
    expect((await lab.verify(command.backup)).failure).toBeUndefined();
  });

  test("a cluster's first backup is not stored where nothing knows of others' backups", async () => {
    const command = Object.assign(lab.command(), { knownClusters: ["cls_other"] });
    await rename(lab.repository, `${lab.repository}-away`);
    await mkdir(lab.repository);
    await expect(lab.take(command)).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
    expect(await readdir(lab.repository)).toEqual([]);
    await rm(lab.repository, { recursive: true });
    await rename(`${lab.repository}-away`, lab.repository);
  });

  test("a backup that is cancelled, or whose server dies, leaves nothing behind, on the server neither", async () => {
    for (const how of ["cancel", "kill"] as const) {
      const command = lab.command({ maxRateBytes: 2n << 20n });
      const controller = new AbortController();
      const taking = lab.take(command, { signal: controller.signal }).catch((error: unknown) => error);
      await expect
        .poll(() => readdir(lab.folderOf(command.backup)).catch(() => []), { timeout: 20_000 })
        .not.toEqual([]);
      if (how === "cancel") controller.abort(new Failure("CANCELLED", "enough"));
      else await server.stop("kill");
      expect(await taking).toMatchObject({ reason: how === "cancel" ? "CANCELLED" : "CLUSTER_UNREACHABLE" });
      expect(await readdir(lab.folderOf(command.backup)).catch(() => [])).toEqual([]);
      expect(lab.leavings).toEqual([]);
      await server.start();
      const left =
        "select (select count(*) from pg_replication_slots) + (select count(*) from pg_stat_activity where backend_type = 'walsender')";
      await expect.poll(() => server.sql("postgres", left), { timeout: 5000 }).toBe("0");
    }
  });

  test.each(once)("a repository that fills up ends the backup as what it is, and nothing stays", async () => {
    const command = lab.command({ codec: NONE });
    const real = await lab.storage();
    let taken = 0;
    async function* cut(body: AsyncIterable<Uint8Array>) {
      for await (const chunk of body) {
        taken += chunk.length;
        if (taken > 8 << 20) throw new Failure("REPOSITORY_FULL", "no room is left");
        yield chunk;
      }
    }
    const small: Storage = { ...real, put: (name, body, options) => real.put(name, cut(body), options) };
    await expect(lab.take(command, { storage: small })).rejects.toMatchObject({ reason: "REPOSITORY_FULL" });
    expect(await readdir(lab.folderOf(command.backup)).catch(() => [])).toEqual([]);
    await real[Symbol.asyncDispose]();
  });

  test.each(major >= 17 ? [major] : [])(
    "an incremental of an incremental is small, and recovered by its own RECOVER.txt",
    async () => {
      await server.sql("postgres", "vacuum (freeze) big; vacuum (freeze) moved");
      const chain = [lab.command({}, [key.recipient])];
      const sizes = [(await lab.take(chain[0]!)).storedBytes];
      for (const id of [7, 39_999]) {
        await server.sql(
          "postgres",
          `update big set text = 'new' where id = ${id}; update moved set text = 'new' where id = 5`,
        );
        const command = lab.command({}, [key.recipient]);
        Object.assign(command, { incremental: true, parent: chain.at(-1)?.backup });
        const { manifest, storedBytes } = await lab.take(command, { identities: key.identityFile });
        expect(physicalContent(manifest)).toMatchObject({
          fullReason: "",
          parentBackupId: chain.at(-1)?.backup.backupId,
        });
        expect((await lab.verify(command.backup, key.identityFile)).failure).toBeUndefined();
        chain.push(command);
        sizes.push(storedBytes);
      }
      expect(sizes[2]).toBeLessThan((sizes[0] ?? 0n) / 2n);
      const before = await server.sql("postgres", facts);
      await server.sql("postgres", "update big set text = 'later' where id = 8");
      await using recovered = await runRecipe(server, lab.folderOf(chain[2]!.backup), { key, oid });
      await using restored = await startRecovered(server, recovered.data);
      expect(await restored.sql("postgres", facts)).toBe(before);
      expect(await restored.sql("postgres", `select pg_tablespace_location(${oid})`)).toBe(recovered.moved);
    },
  );

  const wish = () => Object.assign(lab.command(), { incremental: true });
  test.each(major < 17 ? [major] : [])(
    "an incremental is refused where no server of its major can take one",
    async () => {
      await expect(lab.take(wish())).rejects.toMatchObject({ reason: "NOT_SUPPORTED" });
    },
  );

  test.each(major >= 17 ? [major] : [])("an incremental that cannot be is a full that says why", async () => {
    const parent = lab.command();
    await lab.take(parent);
    const reasonOf = async (command: ReturnType<typeof wish>) => {
      const { manifest } = await lab.take(command);
      expect(manifest).toMatchObject({ kind: BackupKind.FULL });
      return physicalContent(manifest).fullReason;
    };
    expect(await reasonOf(wish())).toContain("the repository that it goes into has no backup");
    const gone = { ...parent.backup, backupId: "bkp_gone", folder: "20261121T000000Z_full_bkp_gone" };
    expect(await reasonOf(Object.assign(wish(), { parent: gone }))).toContain("is missing");
    await server.sql("postgres", "alter system set summarize_wal = off");
    await server.sql("postgres", "select pg_reload_conf()");
    await expect.poll(() => server.sql("postgres", "show summarize_wal")).toBe("off");
    expect(await reasonOf(Object.assign(wish(), { parent: parent.backup }))).toContain("summarize_wal");
    await server.sql("postgres", "alter system reset summarize_wal");
    await server.sql("postgres", "select pg_reload_conf()");
  });

  test.each(once)(
    "what an agent that died left is settled by the manifest: committed with its result, else cleared away",
    async () => {
      const command = lab.command();
      const result = await lab.take(command);
      await using storage = await lab.storage();
      const lost = {
        address: command.backup,
        operationId: "op_lab",
        signal: AbortSignal.timeout(60_000),
        onProgress() {},
      };
      const settled = await settleCommitted(storage, lost);
      const { manifestSha256, storedBytes, recipe } = result;
      expect(settled.committed).toMatchObject({ manifestSha256, storedBytes });
      expect(settled.committed?.recipe).toBe(recipe);
      await rm(join(lab.folderOf(command.backup), "manifest.json"));
      const cleared = await settleCommitted(storage, lost);
      expect(cleared.committed).toBeUndefined();
      expect(cleared.removed.length).toBeGreaterThan(4);
      expect(await readdir(lab.folderOf(command.backup)).catch(() => [])).toEqual([]);
    },
  );
});

test("pages that fail their checksums end a backup, unless they are accepted, and then the manifest says so", async () => {
  await using server = await openPostgresServer({ major: 17 });
  await using lab = await openPhysicalLab(server);
  await server.stop();
  const asOwner = [`--reuid=${server.owner.uid}`, `--regid=${server.owner.gid}`, "--clear-groups"];
  const enable = [...asOwner, `${server.binDir}/pg_checksums`, "--enable", "--pgdata", server.dataDir];
  expect(await runProgram("setpriv", enable, { env: {} })).toMatchObject({ code: 0 });
  await server.start();
  await server.sql("postgres", "create table t as select generate_series(1, 20000) as id; checkpoint");
  const file = await server.sql("postgres", "select pg_relation_filepath('t')");
  const handle = await open(join(server.dataDir, file), "r+");
  await handle.write(Buffer.from("damage"), 0, 6, 4000);
  await handle.close();
  await expect(lab.take(lab.command())).rejects.toMatchObject({ reason: "BACKUP_CHECKSUM_FAILED" });
  const accepted = await lab.take(lab.command({ acceptCorrupt: true }));
  expect(physicalContent(accepted.manifest)).toMatchObject({ corruptPages: true, dataChecksums: true });
  expect(lab.log.join("\n")).toContain("accepted as asked for");
});

test("configuration outside the data directory is kept, and RECOVER.txt puts it in without the paths of the source", async () => {
  await using server = await openPostgresServer({ major: 18 });
  await using lab = await openPhysicalLab(server);
  const outside = join(server.socketDir, "..", "etc");
  await mkdir(outside);
  await cp(join(server.dataDir, "pg_hba.conf"), join(outside, "hba here.conf"));
  await writeFile(join(outside, "extra.conf"), "work_mem = '7MB'\n");
  await giveTo(server, outside);
  const lines = `hba_file = '${outside}/hba here.conf'\ninclude '${outside}/extra.conf'\n`;
  await writeFile(join(server.dataDir, "postgresql.conf"), lines, { flag: "a" });
  await server.stop();
  await server.start();
  const command = lab.command();
  const { configFiles } = physicalContent((await lab.take(command)).manifest);
  expect(configFiles.map(({ path: where, role, problem }) => [where, role, problem])).toEqual([
    [`${outside}/hba here.conf`, "hba_file", ""],
    [`${outside}/extra.conf`, "include", ""],
  ]);
  expect((await lab.verify(command.backup)).failure).toBeUndefined();
  await rm(outside, { recursive: true });
  await using recovered = await runRecipe(server, lab.folderOf(command.backup), { key });
  await using restored = await startRecovered(server, recovered.data);
  expect(await restored.sql("postgres", "show work_mem")).toBe("7MB");
  expect(await restored.sql("postgres", "show hba_file")).toBe(`${recovered.data}/pg_hba.conf`);
});

test("RECOVER.txt writes plain files in place of configuration that is not in the backup", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { max_connections: "123" } });
  await using lab = await openPhysicalLab(server);
  const outside = join(server.socketDir, "..", "pg_hba.conf");
  await cp(join(server.dataDir, "pg_hba.conf"), outside);
  await giveTo(server, outside);
  await writeFile(join(server.dataDir, "postgresql.conf"), `hba_file = '${outside}'\n`, { flag: "a" });
  await server.stop();
  await server.start();
  for (const file of [outside, join(server.dataDir, "postgresql.conf"), join(server.dataDir, "pg_hba.conf")])
    await rm(file);
  const command = lab.command();
  const { manifest } = await lab.take(command);
  const lacks = missingConfiguration(physicalContent(manifest));
  expect(lacks).toEqual([expect.stringMatching(`^${outside}: .*(no such file|could not)`)]);
  await using place = await openRestoreLab(server, lab.repository);
  const into = await place.command("data", [command.backup], { start: false });
  const { items } = await place.with(into, inspectRestore);
  expect(items).toContainEqual(
    expect.objectContaining({ name: "configuration", message: `the backup lacks ${lacks[0]}` }),
  );
  const warning: unknown = expect.stringMatching(
    /^the backup holds no postgresql.conf: .*\nthe backup holds no pg_hba.conf: .*\n$/,
  );
  await using recovered = await runRecipe(server, lab.folderOf(command.backup), { key, warning });
  expect(await readFile(join(recovered.data, "pg_hba.conf"), "utf8")).toBe("local all all peer\n");
  await writeFile(join(recovered.data, "pg_hba.conf"), "local all all trust\n");
  await using restored = await startRecovered(server, recovered.data);
  expect(await restored.sql("postgres", "show max_connections")).toBe("123");
});
