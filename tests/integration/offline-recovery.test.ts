// The worst night of a cluster with physical backups: control plane and agent are gone, a repository is left, and from it
// the cluster comes back as it was a second before the mistake.
import { spawnSync } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { RepositoryTargetSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { ScannedServerSchema } from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { openLog } from "@coppice/proto/kit/log";
import type { RecoveryFlags } from "@coppice/proto/kit/recovery-point/recovery-flags";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { recordEnd } from "@coppice/proto/kit/wal/record-end";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openBudget } from "../../agent/src/budget.ts";
import { restoreDirectory } from "../../agent/src/offline/data-directory/restore-directory.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import { listAnchors } from "../../agent/src/wal/anchors/list-anchors.ts";
import { scanWal } from "../../agent/src/wal/scan/scan-wal.ts";
import { listExtents } from "../../agent/src/wal/store/list-extents.ts";
import { runArchive } from "../../agent/src/wal/receive/archive.ts";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { freePort } from "../support/free-port.ts";
import { waitFor } from "../support/installation.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { promote } from "../support/physical/promote.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { letRead } from "../support/scenarios/files.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";

const main = join(import.meta.dirname, "../../agent/src/main.ts");
const signal = AbortSignal.timeout(300_000);
const segmentBytes = 16n << 20n;
const patient = { timeout: 60_000, interval: 100 };
const rows = "select count(*), md5(string_agg(t::text, '' order by t::text)) from orders t";

describe.each([
  { major: 15, how: "a plain repository, promoted meanwhile", isEncrypted: false, isPromoted: true },
  { major: 18, how: "an encrypted repository", isEncrypted: true, isPromoted: false },
])("PostgreSQL $major with nothing left but $how", ({ major, isEncrypted, isPromoted }) => {
  const stack = new AsyncDisposableStack();
  let server: PostgresServer;
  let lab: PhysicalLab;
  let folder: string;
  let identity: readonly string[] = [];
  let [before, moment, dropLsn, xid, idle]: string[] = [];

  beforeAll(async () => {
    server = await openPostgresServer({ major });
    lab = stack.use(await openPhysicalLab(server));
    folder = await mkdtemp(join(tmpdir(), "coppice-worst-night-"));
    stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
    await chmod(folder, 0o755);
    await chown(folder, server.owner.uid, server.owner.gid);
    const recipients: string[] = [];
    if (isEncrypted) {
      const key = await makeAgeKey();
      recipients.push(key.recipient);
      await writeFile(join(folder, "kit.txt"), key.identityFile, { mode: 0o600 });
      identity = ["--identity", join(folder, "kit.txt")];
    }
    const query = (text: string) => server.sql("postgres", text);
    await query("create table orders as select i as id, md5(i::text) from generate_series(1, 2000) i");
    await using archived = await openArchiveLab(server, { maxAgeSeconds: 1 });
    const location = create(RepositoryLocationSchema, {
      kind: { case: "filesystem", value: { path: lab.repository } },
    });
    const ending = new AbortController();
    const options = {
      archive: create(WalArchiveSchema, {
        ...archived.archive,
        clusterId: "cls_test",
        repository: create(RepositoryTargetSchema, { repositoryId: "rep_1", location, recipients }),
      }),
      secret: archived.secret,
      folder: join(archived.folder, "state"),
      clientFiles: { home: "/nonexistent" },
      budget: openBudget(64 << 20),
      log: openLog({ level: "error", name: "test" }),
    };
    const anchors = async () => {
      await using storage = await openFilesystem(lab.repository, "op_look");
      const { systemIdentifier } = archived.archive;
      const place = { clusterId: "cls_test", systemIdentifier };
      const extents = await listExtents(storage, { place, segmentBytes, signal });
      // One counts where everything before it is stored.
      return (await listAnchors(storage, place, signal)).filter(({ timeline, lsn }) =>
        extents.some((extent) => extent.timeline === timeline && recordEnd(lsn, segmentBytes) <= extent.endLsn),
      );
    };
    const running = runArchive({ ...options, signal: ending.signal });
    let last = 0n;
    const isStored = async (lsn: string) => {
      await waitFor(`WAL is stored up to ${lsn}`, () => {
        const text = running.report()?.storedLsn ?? "";
        if (text !== "") last = parseLsn(text);
        return Promise.resolve(last >= parseLsn(lsn));
      });
    };
    await isStored(await query("select pg_switch_wal()"));
    await lab.take(lab.command({}, recipients));

    await query("insert into orders select i, 'after the backup' from generate_series(3000, 3500) i");
    await query("select pg_switch_wal()");
    if (isPromoted) await promote(server);
    await query("delete from orders where id % 7 = 0");
    before = await query(rows);
    await query("select pg_sleep(0.05)");
    moment = await query("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'");
    await query("select pg_sleep(0.05)");
    dropLsn = await query("select pg_current_wal_insert_lsn()");
    xid = await query("begin; drop table orders; select pg_current_xact_id()::xid; commit");
    await query("select pg_create_restore_point('after the mistake')");
    await query("create table later ()");
    await isStored(await query("select pg_switch_wal()"));
    ending.abort();
    await running.ended;
    // Nothing is committed any more, and the archive goes on: it tells of the time, as it does every ten minutes.
    idle = await query("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'");
    await query("select pg_sleep(0.05)");
    const known = (await anchors()).length;
    const resting = new AbortController();
    const again = runArchive({ ...options, signal: resting.signal });
    await waitFor("a time is stored", async () => (await anchors()).length > known);
    resting.abort();
    await again.ended;
    await server[Symbol.asyncDispose]();
  });
  afterAll(() => stack.disposeAsync());

  async function restore(name: string, ...args: string[]) {
    const into = join(folder, name);
    const port = await freePort();
    const words = ["restore-directory", "shop", "--repo", lab.repository, "--into", into, "--port", String(port)];
    const ran = spawnSync(process.execPath, [main, ...words, ...identity, ...args], { encoding: "utf8", cwd: "/" });
    return { ...ran, into, port };
  }
  const identityText = async () => (isEncrypted ? await readFile(identity[1] ?? "", "utf8") : undefined);
  const stop = (into: string) => asServer(server, "pg_ctl", ["-D", into, "-m", "immediate", "-w", "stop"]);
  const traces = async () => (await readdir(folder)).filter((name) => name !== "kit.txt");

  test("a list says which physical backups are whole, and how far archived WAL leads", () => {
    const list = (...args: string[]) => {
      const words = ["ls", "--repo", lab.repository, ...args];
      return spawnSync(process.execPath, [main, ...words], { encoding: "utf8", cwd: "/" });
    };
    const { status, stdout } = list();
    expect(status).toBe(0);
    expect(stdout).toMatch(/^shop {2}cls_test {2}last good physical bkp_\d+$/m);
    expect(stdout).toMatch(/^ +bkp_1 .* full +complete +[\d.]+ \w+$/m);
    expect(stdout).toMatch(
      /^ +the whole cluster, [\d.]+ MB; WAL from \S+ to \S+ on timeline 1, in the (backup|archive)$/m,
    );
    expect(stdout).toMatch(/^ +archived WAL from \S+ to \S+ on timeline 1/m);
    expect(stdout).toMatch(/^ +archived WAL .*, until \d{4}-\S+ \S+Z at least$/m);
    expect(stdout).not.toContain("selection");
    expect(JSON.parse(list("-o", "json").stdout)).toMatchObject({
      clusters: [
        {
          lastGood: null,
          lastGoodPhysical: expect.stringMatching(/^bkp_/) as string,
          wal: expect.arrayContaining([expect.objectContaining({ timeline: 1 })]) as object[],
          backups: expect.arrayContaining([
            expect.objectContaining({
              wholeCluster: true,
              physical: expect.objectContaining({ parent: null }) as object,
            }),
          ]) as object[],
        },
      ],
    });
  });

  test("a plan says how a time is reached, and what cannot be reached is refused with what can; nothing is touched", async () => {
    const planned = await restore("planned", "--at", moment ?? "", "--start", "--plan");
    expect(planned).toMatchObject({ status: 0 });
    expect(planned.stdout).toMatch(
      /^bkp_1 is recovered from \S+ to \S+ on timelines? [12, ]+ by \d+ archived segments, /,
    );
    expect(planned.stdout.includes("timelines 1, 2")).toBe(isPromoted);
    expect(planned.stdout).toContain("will be there, except what unlogged tables hold\n");
    const options = { repo: lab.repository, cluster: "shop", into: join(folder, "planned"), plan: true };
    const ask = (target: RecoveryFlags) =>
      restoreDirectory({ ...options, ...(isEncrypted ? { identity: identity[1] ?? "" } : {}), ...target }, signal);
    for (const [target, said] of [
      [{ at: "2020-01-01 00:00 UTC" }, "before the end of the first usable backup"],
      [{ at: "2099-01-01 00:00 UTC" }, "nothing that is archived is known to reach that time"],
      [{ lsn: "FFF/0" }, "what is archived without a gap ends before it"],
      [{ timeline: 7 }, "nothing is known of timeline 7"],
    ] as const) {
      const hint = expect.stringContaining(
        "timeline" in target ? "name a timeline that is known: 1" : "what can be reached: ",
      ) as unknown;
      await expect(ask(target)).rejects.toMatchObject({
        reason: "RECOVERY_TARGET_UNREACHABLE",
        message: expect.stringContaining(said) as unknown,
        hint,
      });
    }
    await expect(ask({ action: "reboot" })).rejects.toThrow('--action is "reboot"');
    await expect(ask({ at: "2099-01-01 00:00" })).rejects.toMatchObject({ reason: "INVALID_FIELD" });
    await expect(ask({ xid: 1, latest: true })).rejects.toMatchObject({ reason: "INVALID_FIELD" });
    expect(await traces()).toEqual([]);
  });

  test("it is there again row by row as it was a moment before the mistake, and archives nowhere", async () => {
    const restored = await restore("at", "--at", moment ?? "", "--start");
    try {
      expect(restored.stderr).not.toContain("✗");
      expect(restored).toMatchObject({ status: 0 });
      expect(await ask(server, restored.port, "postgres", rows)).toBe(before);
      const said = "select pg_is_in_recovery(), current_setting('archive_mode'), current_setting('restore_command')";
      expect(await ask(server, restored.port, "postgres", said)).toBe("f|off|");
    } finally {
      await stop(restored.into);
    }
    expect(await traces()).toEqual(["at"]);
  });

  test("a catalog that is made anew is told of all WAL that is there, and of the timelines that lead through it", async () => {
    await using storage = await openFilesystem(lab.repository, "op_scan");
    const [systemIdentifier = ""] = await readdir(join(lab.repository, "cls_test/wal"));
    const place = { clusterId: "cls_test", systemIdentifier };
    const identities = await identityText();
    const servers = [create(ScannedServerSchema, { ...place, segmentBytes })];
    const { wal, problems } = await scanWal(storage, { servers, identities, signal });
    const extents = await listExtents(storage, { place, segmentBytes, signal });
    const stored = extents.map(({ timeline, endLsn }) => ({ timeline, endLsn: formatLsn(endLsn) }));
    expect(problems).toEqual([]);
    expect(wal).toMatchObject([{ ...place, stored }]);
    const told = wal.flatMap(({ histories }) => histories);
    expect(told.map(({ timeline, content }) => [timeline, content.startsWith("1\t")])).toEqual(
      isPromoted ? [[2, true]] : [],
    );
    expect(wal[0]?.anchors.length).toBe((await listAnchors(storage, place, signal)).length);
    // Nobody knows how long its segments are.
    const blind = await scanWal(storage, { servers: [], identities, signal });
    expect(blind).toMatchObject({
      wal: [],
      problems: [],
      leftOut: [expect.stringContaining(`wal/${systemIdentifier}: no physical`)],
    });
  });

  test("its archived WAL is read again record by record, and what can be reached by it is said", async () => {
    const words = ["verify", "shop", "--repo", lab.repository, "--wal", ...identity];
    const { status, stdout } = spawnSync(process.execPath, [main, ...words], { encoding: "utf8", cwd: "/" });
    expect(stdout).toMatch(/^✓ bkp_1 {2}shop, /m);
    expect(stdout).toMatch(
      /^✓ WAL of shop, system identifier \d+ {2}\d+ objects, .* with [1-9]\d+ records: sound from /m,
    );
    expect(stdout).not.toMatch(/recovery can reach (\S+) to \1 /);
    expect(stdout).toMatch(/^ {4}recovery can reach [\dA-F/]+ to [\dA-F/]+ on timeline [12], /m);
    expect(status).toBe(0);
  });

  const there = "select count(*) from pg_class where relname in ('orders', 'later')";
  const points = [
    ["a transaction, and what it did is there", ["--xid"], "0"],
    ["a transaction, without it", ["--xid", "--exclusive"], "1"],
    ["a restore point", ["--name"], "0"],
    ["a time after the last commit of a server that nobody used", ["--at"], "1"],
  ] as const;
  test.each(isEncrypted ? points.slice(-1) : points)(
    "it is there as it was at %s",
    async (what, [flag, ...more], tables) => {
      const point = flag === "--xid" ? xid : flag === "--name" ? "after the mistake" : idle;
      const restored = await restore(`to${flag}${more.length}`, flag, point ?? "", ...more, "--start");
      try {
        expect(restored.stderr, what).not.toContain("✗");
        expect(restored).toMatchObject({ status: 0 });
        expect(await ask(server, restored.port, "postgres", there)).toBe(tables);
        const shown = "select current_setting('log_destination') || current_setting('log_min_messages')";
        expect(await ask(server, restored.port, "postgres", shown)).toBe("stderrwarning");
      } finally {
        await stop(restored.into);
        await rm(restored.into, { recursive: true, force: true });
      }
    },
  );

  test.each(isEncrypted ? [] : [major])("a transaction that never was ends recovery without a server", async () => {
    const restored = await restore("never", "--xid", String(Number(xid) + 100_000), "--start");
    expect(restored.status).not.toBe(0);
    expect(restored.stderr).toContain("before its target");
    expect(restored.stderr).toMatch(/may lie before the end of bkp_\w+: name an older backup, --backup/);
    expect((await traces()).filter((name) => name === "never")).toEqual([]);
  });

  test.each(isEncrypted ? [] : [major])(
    "archived WAL that is damaged is named, not only its server's end",
    async () => {
      const wal = join(lab.repository, "cls_test/wal");
      const names = (await readdir(wal, { recursive: true })).filter((name) => /\/[0-9A-F]{24}[^/]*$/.test(name));
      const stored = await Promise.all(names.map((name) => readFile(join(wal, name))));
      // The last byte is of a checksum: nobody sees it who does not read to the end.
      for (const [index, bytes] of stored.entries())
        await writeFile(
          join(wal, names[index] ?? ""),
          Buffer.concat([bytes.subarray(0, -1), Buffer.from([(bytes.at(-1) ?? 0) ^ 1])]),
        );
      try {
        // The one is found while a time is looked for, the other by the server.
        for (const point of [
          ["--at", moment ?? ""],
          ["--lsn", dropLsn ?? ""],
        ]) {
          const { status, stderr } = await restore("damaged", ...point, "--start");
          expect(status).not.toBe(0);
          expect(stderr).toMatch(/^✗ .*[0-9A-F]{24} is damaged: it does not decompress$/m);
          expect(stderr).toMatch(
            /^ {2}next: choose a target before it.*`coppice-agent verify CLUSTER --repo … --wal`/m,
          );
        }
        const verified = spawnSync(process.execPath, [main, "verify", "--repo", lab.repository, "--wal"], {
          encoding: "utf8",
        });
        expect(verified.stderr).toMatch(
          /next: restore from one that is sound: a physical one: coppice-agent restore-directory/,
        );
      } finally {
        for (const [index, bytes] of stored.entries()) await writeFile(join(wal, names[index] ?? ""), bytes);
      }
      expect((await traces()).filter((name) => name === "damaged")).toEqual([]);
    },
  );

  if (!isEncrypted) return;
  test("an identity that opens the backup and not its WAL is refused before anything is unpacked", async () => {
    const { recipient, identityFile } = await makeAgeKey();
    const backups = join(lab.repository, "cls_test/backups");
    const manifest = join(backups, (await readdir(backups))[0] ?? "", "manifest.json");
    const [text, before, kit] = [await readFile(manifest, "utf8"), await traces(), identity];
    await writeFile(join(folder, "other.txt"), identityFile, { mode: 0o600 });
    identity = ["--identity", join(folder, "other.txt")];
    // What would be unpacked of it does not matter.
    await writeFile(manifest, text.replaceAll(/age1[0-9a-z]{58}/g, recipient));
    try {
      for (const point of [["--latest"], ["--lsn", dropLsn ?? ""]]) {
        const { stderr, status } = await restore("wrong", "--start", ...point);
        expect(stderr).toMatch(/00000001\w{16} is encrypted to other recipients .*\n {2}next: give the identity/);
        expect(status).toBe(4);
      }
    } finally {
      identity = kit;
      await writeFile(manifest, text);
      await rm(join(folder, "other.txt"));
    }
    expect(await traces()).toEqual(before);
  });

  test("what is no identity that opens it is said to be none, with the recipients that are wanted", async () => {
    const [kit, other] = [identity, join(folder, "other.txt")];
    const recipient = /age1\w+/.exec(await readFile(kit[1] ?? "", "utf8"))?.[0] ?? "";
    onTestFinished(() => void (identity = kit));
    identity = ["--identity", other];
    for (const text of ["garbage\n", `${recipient}\n`, "", (await makeAgeKey()).identityFile]) {
      await writeFile(other, text, { mode: 0o600 });
      const { stderr, status } = await restore("wrong", "--at", moment ?? "", "--plan");
      expect(status).toBe(4);
      expect(stderr).toMatch(
        /^✗ it is encrypted to age1\w+, and .*\n {2}next: give the identity file of one of the named/m,
      );
      expect(stderr).toContain(recipient);
    }
    await rm(other);
  });

  test("a server that is started later fetches its WAL by itself, if it may, and is refused beforehand if not", async () => {
    const refused = await restore("later", "--lsn", dropLsn ?? "", "--exclusive");
    expect(refused.status).toBe(4);
    expect(refused.stderr).toMatch(/cannot fetch WAL: .*\n {2}next: .*--start/);
    // The server's user gets what it needs.
    await letRead(dirname(lab.repository));
    await chown(join(folder, "kit.txt"), server.owner.uid, server.owner.gid);
    const made = await restore("later", "--lsn", dropLsn ?? "", "--exclusive");
    expect(made.stderr).not.toContain("✗");
    expect(made.status).toBe(0);
    await mkdir(server.socketDir, { recursive: true });
    const log = join(folder, "later.log");
    await writeFile(log, "");
    await chown(log, server.owner.uid, server.owner.gid);
    try {
      await asServer(server, "pg_ctl", ["-D", made.into, "-l", log, "-w", "-t", "100", "start"]);
      const isOver = () => ask(server, made.port, "postgres", "select pg_is_in_recovery()");
      await expect.poll(isOver, patient).toBe("f");
      expect(await ask(server, made.port, "postgres", rows)).toBe(before);
      // A standby that is made of it has no target to end at.
      const left = await readFile(join(made.into, "postgresql.auto.conf"), "utf8");
      expect(left).toContain("archive_mode");
      expect(left).not.toMatch(/recovery_target|restore_command|recovery_end_command/);
    } finally {
      await stop(made.into);
    }
  });
});
