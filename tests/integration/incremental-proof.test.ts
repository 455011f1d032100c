// One thing: the proof that a chain of incrementals is the cluster: byte by byte where nothing moved, and by its rows and
// indexes where everything did. And that such a chain goes on where what is stored cannot be read back.
import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { openRandom, type Random } from "../support/ledger/random.ts";
import { openPhysicalLab, physicalContent, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { startRecovered } from "../support/physical/recovered-server.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { asServer } from "../support/scenarios/restored-server.ts";

/** With checksums of pages, on which the proof rests: without them hint bits change pages that no WAL tells of. */
async function openChecksummed(major: number, settings: Readonly<Record<string, string>>): Promise<PostgresServer> {
  const server = await openPostgresServer({ major, settings: { summarize_wal: "on", ...settings } });
  if ((await server.sql("postgres", "show data_checksums")) === "off") {
    await server.stop();
    expect(await asServer(server, "pg_checksums", ["--enable", "--pgdata", server.dataDir])).toMatchObject({ code: 0 });
    await server.start();
  }
  return server;
}

/** Digests of all files that hold relations, and their number, by their place in the data directory. */
async function relationFiles(dataDirectory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const entries = await readdir(dataDirectory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name).slice(dataDirectory.length + 1);
    const isRelation = /^\d+(_(fsm|vm|init))?(\.\d+)?$/.test(entry.name) || entry.name === "pg_filenode.map";
    if (!entry.isFile() || !isRelation || !/^(base|global)\//.test(path)) continue;
    const content = await readFile(join(dataDirectory, path));
    files.set(path, createHash("sha256").update(content).digest("hex"));
  }
  return files;
}

describe.each([17, 18])("PostgreSQL %i", { timeout: 120_000 }, (major) => {
  let server: PostgresServer;
  let backups: PhysicalLab;
  let lab: RestoreLab;
  beforeAll(async () => {
    server = await openChecksummed(major, { autovacuum: "off" });
    backups = await openPhysicalLab(server);
    lab = await openRestoreLab(server, backups.repository);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await backups?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const take = async (parent?: BackupAddress) => {
    const command = Object.assign(backups.command(), parent ? { incremental: true, parent } : {});
    const { manifest } = await backups.take(command);
    const { fullReason } = physicalContent(manifest);
    expect({ kind: manifest?.kind, fullReason }).toEqual({
      kind: parent ? BackupKind.INCREMENTAL : BackupKind.FULL,
      fullReason: "",
    });
    return command.backup;
  };
  const databases = async (of: { sql(database: string, text: string): Promise<string> }) =>
    (await of.sql("postgres", "select datname from pg_database where datallowconn order by 1")).split("\n");

  test("of a quiet server, an incremental put together with its parent is a full backup, byte by byte", async () => {
    await server.sql(
      "postgres",
      `create table changed as select id, repeat(md5(id::text), 4) as text from generate_series(1, 20000) id;
       create index on changed (text);
       create table emptied as select * from changed;
       create table rewritten as select * from changed;
       create table large (id int, text text);
       insert into large select id, (select string_agg(md5((id * g)::text), '') from generate_series(1, 200) g) from generate_series(1, 100) id;
       create unlogged table passing as select 1 as id;
       create database leaving;`,
    );
    const full = await take();
    await server.sql(
      "postgres",
      "update changed set text = 'new' where id % 100 = 0; delete from changed where id between 5000 and 6000; truncate emptied; create table added as select * from changed",
    );
    for (const text of ["vacuum full rewritten", "drop database leaving", "create database coming"])
      await server.sql("postgres", text);
    await server.sql("coming", "create table arrived as select generate_series(1, 5000) as id");
    // Nothing is left for later readers to note in the pages.
    for (const database of await databases(server)) await server.sql(database, "vacuum");
    await server.sql("postgres", "checkpoint");
    const incremental = await take(full);
    const after = await take();

    const combined = await lab.command("combined", [full, incremental], { start: false });
    const whole = await lab.command("whole", [after], { start: false });
    await lab.restore(combined);
    await lab.restore(whole);
    const [one, other] = await Promise.all([combined, whole].map((each) => relationFiles(each.dataDirectory)));
    expect(other?.size).toBeGreaterThan(300);
    expect([...(one ?? [])].filter(([path, digest]) => other?.get(path) !== digest)).toEqual([]);
    expect([...(one?.keys() ?? [])].toSorted()).toEqual([...(other?.keys() ?? [])].toSorted());
  });

  /** One change of many kinds, the same for the same choices. */
  async function change(random: Random): Promise<void> {
    const from = Math.floor(random.number(4500));
    const database = random.pick(["first", "second"]);
    const name = `extra_${Math.floor(random.number(3))}`;
    const choice = random.pick<[string, string]>([
      [database, `update t set text = md5(text) where id between ${from} and ${from + 700}`],
      [database, `delete from t where id between ${from} and ${from + 200}`],
      [
        database,
        `insert into t select id, md5(id::text) from generate_series(${from}, ${from + 500}) id on conflict do nothing`,
      ],
      [database, "vacuum full t"],
      [database, "vacuum freeze t"],
      [database, "truncate u; insert into u select id, md5(id::text) from generate_series(1, 2000) id"],
      [database, "drop index if exists more; create index more on t (text, id)"],
      [database, "reindex table t"],
      ["postgres", `drop database if exists ${name}`],
      ["postgres", `drop database if exists ${name}; create database ${name} template first`],
    ]);
    // A statement in another one's way is one that did not happen.
    for (const text of choice[1].split(";")) await server.sql(choice[0], text).catch(() => "");
  }

  const digestOf = async (of: { sql(database: string, text: string): Promise<string> }) => {
    const digests: string[] = [];
    for (const database of await databases(of)) {
      const tables = await of.sql(
        database,
        "select oid::regclass from pg_class where relkind = 'r' and relpersistence = 'p' and relnamespace = 'public'::regnamespace order by 1",
      );
      for (const table of tables.split("\n").filter(Boolean)) {
        const digest = await of.sql(
          database,
          `select count(*), md5(string_agg(t::text, ',' order by t::text)) from ${table} t`,
        );
        digests.push(`${database} ${table} ${digest}`);
      }
    }
    return digests;
  };

  // The same code of ours, and the newest of the server's.
  const newest = major === 18 ? [major] : [];
  test.each(newest)(
    "a chain of three taken under random load has every row, and sound indexes and tables",
    async () => {
      const seed = 4242 + major;
      const random = openRandom(seed);
      for (const database of ["first", "second"]) {
        await server.sql("postgres", `create database ${database}`);
        await server.sql(
          database,
          `create table t (id int primary key, text text);
         insert into t select id, md5(id::text) from generate_series(1, 5000) id;
         create index on t (text);
         create table u as select * from t limit 2000`,
        );
      }
      const chain = [await take()];
      for (let link = 0; link < 3; link++) {
        const load = (async () => {
          for (let count = 0; count < 8; count++) await change(random);
        })();
        // The last one comes when all is done: only so it is known what has to be in it.
        if (link === 2) await load;
        chain.push(await take(chain.at(-1)));
        await load;
      }
      const before = await digestOf(server);
      expect(before.length, `seed ${seed}`).toBeGreaterThan(4);
      const command = await lab.command("loaded", chain, { start: false });
      await lab.restore(command);
      await using restored = await startRecovered(server, command.dataDirectory);
      expect(await digestOf(restored), `seed ${seed}`).toEqual(before);
      const place = ["-h", server.socketDir, "-p", String(restored.port), "-U", server.superuser];
      const checks = ["--all", "--install-missing", "--parent-check", "--heapallindexed"];
      expect(await asServer(server, "pg_amcheck", [...place, ...checks]), `seed ${seed}`).toMatchObject({
        code: 0,
        stdout: "",
      });
    },
  );
});

describe("an encrypted repository that this host cannot read", { timeout: 120_000 }, () => {
  let server: PostgresServer;
  let lab: PhysicalLab;
  let recipient: string;
  beforeAll(async () => {
    server = await openPostgresServer({ major: 18, settings: { summarize_wal: "on" } });
    ({ recipient } = await makeAgeKey());
    lab = await openPhysicalLab(server);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const take = async (parent?: BackupAddress) => {
    const command = Object.assign(lab.command({}, [recipient]), parent ? { incremental: true, parent } : {});
    const { manifest } = await lab.take(command);
    return { address: command.backup, kind: manifest?.kind, fullReason: physicalContent(manifest).fullReason };
  };
  const kept = () => readdir(lab.chainFolder);

  test("is gone on with by the manifest that was kept, which is the agent's alone and that of the chain's end", async () => {
    const full = await take();
    const [name = ""] = await kept();
    expect((await stat(join(lab.chainFolder, name))).mode & 0o777).toBe(0o600);
    expect(JSON.parse(await readFile(join(lab.chainFolder, name), "utf8"))).toHaveProperty("Files");
    const first = await take(full.address);
    expect(first).toMatchObject({ kind: BackupKind.INCREMENTAL, fullReason: "" });
    const second = await take(first.address);
    expect(second).toMatchObject({ kind: BackupKind.INCREMENTAL, fullReason: "" });
    expect(await kept()).toEqual([expect.stringContaining(second.address.backupId)]);
    // Of what is no end of a chain any more nothing is kept.
    expect(await take(full.address)).toMatchObject({
      kind: BackupKind.FULL,
      fullReason: expect.stringMatching(
        /is encrypted, and this host cannot read it; it keeps no copy of it$/,
      ) as string,
    });
  });

  test("has a full backup where the manifest that was kept is another one or is gone", async () => {
    const full = await take();
    const [name = ""] = await kept();
    await writeFile(join(lab.chainFolder, name), "{}");
    const altered = await take(full.address);
    expect(altered).toMatchObject({
      kind: BackupKind.FULL,
      fullReason: expect.stringMatching(/; the copy that it keeps is another one$/) as string,
    });
    await rm(lab.chainFolder, { recursive: true });
    expect((await take(altered.address)).fullReason).toMatch(/it keeps no copy of it$/);
  });
});
